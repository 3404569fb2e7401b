"""Training from a SeisBench dataset, by command."""

from preprocessing.event_archive import EventArchive
from preprocessing.packing import pack_recordings
from tests.commands.running import CLEARLY_BETTER, run, summary
from tests.preprocessing.seisbench_files import seisbench_data, write_dataset


def test_a_seisbench_dataset_trains_as_a_folder_does(separable, tmp_path):
    pack_recordings(separable, tmp_path / "archive", 100.0)
    archive = EventArchive(tmp_path / "archive")
    rows = [
        (
            {
                "trace_name": f"t{index}",
                "trace_start_time": archive.metadata["trace_start_time"][index],
                "trace_sampling_rate_hz": 100.0,
                "station_code": "A",
                "kind": label if label != "Unlabeled" else None,
                "split": "test" if index % 4 == 0 else "train",
            },
            archive.waveforms(index),
        )
        for index, label in enumerate(archive.labels)
    ]
    library = seisbench_data(tmp_path / "cache")
    folder = write_dataset(library, tmp_path / "dataset", rows)
    output = run(
        "finetune",
        folder,
        "fitted",
        "dataset.source=seisbench",
        "dataset.label_column=kind",
        "exp_params.head=logistic_regression",
        "dataset.split=given",
        "dataset.test_data_ratio=0.2",
        cwd=tmp_path,
        epochs=100,
    )
    assert "84 events of up to 3 channels, 12 s at 100 Hz; classes: high, low, twice" in output
    found = summary(tmp_path, "finetune", "fitted")
    # 0.75 / 0.8 of the 54 events that are called train
    assert found["data"]["n_test"] == 18 and found["data"]["n_train"] == 51
    assert found["metrics"]["ensemble"]["accuracy"] > CLEARLY_BETTER
