import torch

from streamseg.training.augment import augment, sample_seed


def batch(n=16):
    images = torch.full((n, 1, 48, 64), 0.1)
    labels = torch.zeros(n, 2, 48, 64)
    images[:, :, 14:34, 22:42] = 0.9
    labels[:, 0, 14:34, 22:42] = 1
    return images, labels


def test_strength_0_leaves_the_batch_alone():
    images, labels = batch()
    changed = augment(images, labels, range(16), strength=0)
    assert torch.equal(changed[0], images)
    assert torch.equal(changed[1], labels)


def test_the_same_seed_gives_the_same_batch_and_another_seed_another():
    images, labels = batch()
    one, same, other = (augment(images, labels, range(s, s + 16))[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_labels_move_with_the_picture():
    images, labels = augment(*batch(), range(30, 46), strength=0.7)
    for image, label in zip(images[:, 0], labels[:, 0], strict=True):
        inside = label > 0
        assert image[inside].mean() > 2 * image[~inside].mean()


def test_ranges_hold():
    images, labels = augment(*batch(), range(40, 56), strength=1.5)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(labels.unique().tolist()) == {0, 1}
    assert not labels[:, 1].any()


def test_what_happens_to_an_image_does_not_depend_on_its_batch():
    images, labels = batch(4)
    together = augment(images, labels, [5, 6, 7, 8])
    for number, seed in enumerate((5, 6, 7, 8)):
        alone = augment(images[number : number + 1], labels[number : number + 1], [seed])
        assert torch.allclose(alone[0][0], together[0][number], atol=1e-6)
        assert torch.equal(alone[1][0], together[1][number])


def test_seeds_depend_on_every_part():
    seeds = {sample_seed(a, "image", b, c) for a in range(3) for b in range(3) for c in range(3)}
    assert len(seeds) == 27
    assert all(0 <= seed < 2**63 for seed in seeds)
