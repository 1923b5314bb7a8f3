"""What the paper reports, to be put beside what we measure.

"Research on nerve segmentation based on an improved U-Net network" (in Chinese), trained on the Kaggle data
set *Ultrasound Nerve Segmentation* and scored on that competition's hidden test images.
"""

from __future__ import annotations

TITLES = {"unet": "U-Net", "segnet": "SegNet", "improved_unet": "improved U-Net"}
"""Names for people, in the paper's order."""
DICE = {"unet": 0.574, "segnet": 0.611, "improved_unet": 0.657}
"""Table 2: mean Dice on the competition's test images, where both empty counts 1."""
PARAMETERS = {"unet": 7_848_129, "segnet": 31_819_649, "improved_unet": 8_301_441}
"""Table 3: trainable parameters and BatchNorm's running statistics."""
TRAINING_MINUTES = {"unet": 20, "segnet": 343, "improved_unet": 73}
"""Table 4."""
GAIN_PERCENT = {"unet": 14, "segnet": 7}
"""How much higher the improved net's Dice is said to be, in percent of the other net's."""
TIME_RATIO = 1 / 5
"""Training time of the improved net over SegNet's, as the text says it (Table 4: 73 / 343)."""
