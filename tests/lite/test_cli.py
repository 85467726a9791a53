"""The command line: help, one-sentence errors, exit statuses, and how flags may be spelt."""

from pathlib import Path

import pytest

from lite import __version__
from lite.cli import COMMANDS, build_config, main
from lite.config import InferConfig
from lite.errors import ConfigError


def infer_config(*words: str) -> InferConfig:
    return build_config("infer", COMMANDS["infer"], words)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hpe-lite {__version__}\n"


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"hpe-lite {command}" in shown
    assert "_" not in "".join(word for word in shown.split() if word.startswith("--"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["infre"], "did you mean infer?"),
        (["infer", "--inptu", "x"], "did you mean --input?"),
        (["infer", "--input", "x", "--kpt-tr", "0.1"], "did you mean --kpt-thr?"),
        (["infer", "--input", "x", "--kpt-thr", "high"], "--kpt-thr"),
        (["infer", "--input", "x", "--kpt-thr", "7"], "kpt_thr: expected a number from 0 to 1, found 7"),
        (["infer"], "input"),
        (["infer", "--input", "x", "--mode", "float8"], "float8"),
        (["infer", "--config", "no-such-file.yaml"], "no-such-file.yaml"),
        (["inspect", "no-such-file.pth"], "no-such-file.pth"),
        (["infer", "--input", "no-such-folder/"], "no-such-folder"),
    ],
)
def test_misuse_is_one_sentence_and_exit_2(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert expected in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err + shown.out


def test_flags_may_be_spelt_with_hyphens_or_underscores() -> None:
    for flag in ("--kpt-thr", "--kpt_thr"):
        assert infer_config("--input", "a", flag, "0.5").kpt_thr == 0.5
    assert infer_config("--input=a", "--kpt-thr=0.5").kpt_thr == 0.5


def test_yes_no_flags_stand_alone() -> None:
    assert infer_config("--input", "a").quiet is False
    assert infer_config("--input", "a", "--quiet").quiet is True
    assert infer_config("--quiet", "--input", "a").quiet is True
    assert infer_config("--input", "a", "--quiet", "false").quiet is False
    assert infer_config("--input", "a", "--no-recursive").recursive is False
    assert infer_config("--input", "a", "--flip-test").flip_test is True
    assert infer_config("--input", "a", "--no-flip-test").flip_test is False


def test_several_inputs() -> None:
    assert infer_config("--input", "a").inputs == ["a"]
    assert infer_config("--input", "a", "b c", "d").inputs == ["a", "b c", "d"]


def test_yaml_file_with_overrides(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("input: photos\nkpt_thr: 0.2\nbbox_thr: 1e-1\n")
    config = infer_config("--config", str(file), "--kpt-thr", "0.4")
    assert (config.input, config.kpt_thr, config.bbox_thr) == ("photos", 0.4, 0.1)


def test_yaml_file_with_an_unknown_key(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("input: photos\nkpt_treshold: 0.2\n")
    with pytest.raises(ConfigError, match=r"kpt[_-]treshold"):
        infer_config("--config", str(file))


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = tmp_path / "run.yaml"
    file.write_text(f"input: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(ConfigError):
        infer_config("--config", str(file))
    file.write_text(f"input: {{class_path: os.system, init_args: {{command: 'touch {mark}'}}}}\n")
    with pytest.raises(ConfigError):
        infer_config("--config", str(file))
    assert not mark.exists()


def test_a_name_the_terminal_cannot_show_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = COMMANDS["models"]._replace(run="lite.cli:print")
    monkeypatch.setattr("lite.cli.print", lambda _: print("bad\udcff.jpg"), raising=False)
    monkeypatch.setitem(COMMANDS, "models", command)
    main(["models"])
    assert capsys.readouterr().out == "bad\\udcff.jpg\n"
