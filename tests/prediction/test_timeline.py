import numpy as np
from matplotlib.image import imread

from prediction.events import Event
from prediction.timeline import plot_timeline, recorded_periods

HOUR, DAY = 3_600 * 10**9, 86_400 * 10**9
START = int(np.datetime64("2020-02-01T00:00:00", "ns").astype(np.int64))


def times(*hours: tuple[float, float]) -> np.ndarray:
    return START + (np.array(hours).T * HOUR).astype(np.int64)


def test_periods_end_at_long_pauses_only():
    nine_days_apart = times((0, 1), (0.5, 1.02), (216, 217))
    np.testing.assert_array_equal(recorded_periods(nine_days_apart), times((0, 1.02), (216, 217)))
    gaps = times((0, 5), (5.5, 10), (10.2, 20))
    np.testing.assert_array_equal(recorded_periods(gaps), times((0, 20)))
    many = times(*((24 * day, 24 * day + 1) for day in range(20)))
    periods = recorded_periods(many)
    assert 1 <= periods.shape[1] <= 6 and periods[0, 0] == many[0, 0]
    assert periods[1, -1] == many[1, -1]


def test_events_of_recordings_nine_days_apart_are_seen(tmp_path):
    """Nothing of the picture is spent on days without recordings: it has a panel per day."""
    covered = times((0, 1), (216, 216.4), (216.5, 217))
    events = [
        Event("", "", f"2020-02-{day}:{minute:02d}:00Z", {}, "", "", class_name="Rockfall")
        for day, minute in (("01T00", 5), ("01T00", 40), ("10T00", 10), ("10T00", 50))
    ]
    path = plot_timeline(events, ["Noise", "Rockfall"], covered, tmp_path / "timeline.png")
    image = imread(path)[..., :3]
    blue = (abs(image - [0x1F / 255, 0x5C / 255, 0x99 / 255]) < 0.02).all(axis=-1)
    columns = np.flatnonzero(blue.any(axis=0)) / image.shape[1]
    assert ((columns > 0.1) & (columns < 0.5)).any() and (columns > 0.6).any()
    grey = (abs(image - 0xE3 / 255) < 0.005).all(axis=-1)
    assert grey.any(axis=0).mean() > 0.02  # six minutes without recordings
