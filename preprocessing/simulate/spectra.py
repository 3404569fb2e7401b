"""Measured spectra of background noise and power-line hum, in recorder units."""

import numpy as np

# Background noise. Columns: frequency (Hz); 10th, 50th, 90th percentile over channels of the PSD
# (units^2/Hz); correlation with the channel's gain. Measured; where two nodes bound a band, a
# little above the measured percentiles, so that the simulated ones agree with the measured ones.
NOISE_PSD = np.array(
    [
        (1.0, 0.04, 0.065, 0.5, 0.8),
        (2.0, 0.04, 0.14, 1.8, 0.8),
        (4.0, 0.13, 0.55, 5.3, 0.8),
        (6.0, 0.55, 1.45, 4.3, 0.85),
        (9.5, 0.55, 1.55, 4.8, 0.85),
        (11.5, 0.6, 2.2, 13.5, 0.85),
        (15.5, 0.6, 2.2, 13.5, 0.85),
        (24.5, 0.065, 0.18, 1.7, 0.75),
        (40.0, 0.055, 0.145, 0.88, 0.6),
        (64.0, 0.058, 0.09, 0.70, 0.5),
        (124.0, 0.054, 0.067, 0.24, 0.5),
        (230.0, 0.040, 0.051, 0.095, 0.5),
        (350.0, 0.046, 0.057, 0.107, 0.5),
        (440.0, 0.046, 0.054, 0.080, 0.5),
    ]
)
# Power-line hum. Columns: frequency (Hz); 10th, 50th, 90th percentile over channels of the rms
# (units). Measured: the strongest four well, the others with larger errors.
HUM_RMS = np.array(
    [
        (100, 0.8, 2.2, 10),
        (200, 1.6, 5, 12),
        (300, 0.5, 1.7, 5.1),
        (400, 0.3, 1.2, 2.5),
        (50, 0.4, 1.1, 2.0),
        (150, 0.4, 0.9, 1.6),
        (250, 0.5, 1.0, 1.9),
        (350, 0.25, 0.6, 0.9),
        (60, 0.3, 0.7, 2.5),
        (120, 0.2, 0.5, 2.0),
    ]
)
# The broken station, measured. Columns: frequency (Hz); PSD between the hum lines (units^2/Hz) of
# the three components.
BROKEN_PSD = np.array(
    [
        (1.0, 21, 9700, 1840),
        (3.5, 11, 6800, 1010),
        (12, 2.5, 1000, 230),
        (30, 3.1, 1000, 720),
        (60, 3.6, 640, 1700),
        (110, 1.9, 125, 1070),
        (230, 0.8, 10, 330),
        (340, 0.44, 1.9, 132),
        (440, 0.3, 0.9, 75),
    ]
)
# Hum lines of the broken station. Columns: frequency (Hz); rms (units) of the three components.
BROKEN_RMS = np.array(
    [
        (5, 4.3, 93, 36),
        (19.97, 9.8, 203, 131),
        (39.94, 13, 217, 243),
        (59.91, 16, 208, 335),
        (79.88, 13, 145, 305),
        (100, 53, 505, 1323),
        (119.8, 11, 89, 279),
        (139.8, 9, 64, 233),
        (159.8, 8, 49, 202),
        (179.7, 4.5, 24, 112),
        (200, 48, 230, 1187),
        (220, 1.7, 6.6, 38),
        (300, 29, 84, 637),
        (320, 2.5, 6.5, 52),
        (400, 5.6, 11, 108),
    ]
)
