"""The paper's results, to compare ours with.

"Research on nerve segmentation based on an improved U-Net network" (in Chinese), trained on the Kaggle data
set *Ultrasound Nerve Segmentation* and scored on that competition's hidden test images.
"""

from __future__ import annotations

TITLES = {"unet": "U-Net", "segnet": "SegNet", "improved_unet": "improved U-Net"}
"""Human-readable names, in the paper's order."""
NETS = tuple(TITLES)
"""The three nets that it compares."""
IMAGES, SUBJECTS, IMAGE_SIZE = 5635, 47, "580x420"
"""The images that it trains on: number, persons, width x height in pixels. More than half are without "
"nerve."""
DICE = {"unet": 0.574, "segnet": 0.611, "improved_unet": 0.657}
"""Table 2: mean Dice on the competition's test images, where both empty counts as 1."""
PARAMETERS = {"unet": 7_848_129, "segnet": 31_819_649, "improved_unet": 8_301_441}
"""Table 3: trainable parameters and BatchNorm's running statistics."""
TRAINING_MINUTES = {"unet": 20, "segnet": 343, "improved_unet": 73}
"""Table 4."""
GAIN_PERCENT = {"unet": 14, "segnet": 7}
"""Gain in Dice of the improved net that the paper states, in percent of the other net's Dice."""
TIME_RATIO = 1 / 5
"""Ratio of the improved net's training time to SegNet's, as the text states it (Table 4: 73 / 343)."""
