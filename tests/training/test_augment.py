import torch

from streamseg.training.augment import augment


def batch(n=16):
    images = torch.full((n, 1, 48, 64), 0.1)
    labels = torch.zeros(n, 2, 48, 64)
    images[:, :, 14:34, 22:42] = 0.9
    labels[:, 0, 14:34, 22:42] = 1
    return images, labels


def test_strength_0_leaves_the_batch_alone():
    images, labels = batch()
    changed = augment(images, labels, torch.Generator().manual_seed(0), strength=0)
    assert torch.equal(changed[0], images)
    assert torch.equal(changed[1], labels)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    images, labels = batch()
    one, same, other = (augment(images, labels, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_labels_move_with_the_picture():
    images, labels = augment(*batch(), torch.Generator().manual_seed(3), strength=0.7)
    for image, label in zip(images[:, 0], labels[:, 0], strict=True):
        inside = label > 0
        assert image[inside].mean() > 2 * image[~inside].mean()


def test_ranges_hold():
    images, labels = augment(*batch(), torch.Generator().manual_seed(4), strength=1.5)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(labels.unique().tolist()) == {0, 1}
    assert not labels[:, 1].any()
