"""The colors of everything that is drawn, RGB from 0 to 255: one meaning each.

| color | a text |
|---|---|
| green | detected, or a label that is trained on |
| blue | of the ground truth, or a line of text |
| red | missed, or detected where there is none |
| yellow | too thin to train on |
| gray | illegible: it does not count |
"""

from __future__ import annotations

from typing import TypeAlias

Color: TypeAlias = tuple[int, int, int]

GREEN: Color = (60, 230, 90)
BLUE: Color = (70, 130, 255)
RED: Color = (255, 70, 60)
YELLOW: Color = (255, 210, 40)
GRAY: Color = (160, 160, 160)
LETTERS: Color = (230, 230, 230)  # of titles
PAPER: Color = (24, 24, 24)  # below titles and between the pictures of a sheet
