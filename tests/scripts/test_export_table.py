"""The table of formats: which rows there are, what a row says, and that finished rows are kept."""

import json
import runpy
import subprocess
import sys

import pytest

PRINTED = """check against eager float32: 12 crops, batches 1, 3, 12, toy, pt2 bfloat16 on cpu
  compared 100 of 204, left out: 104 without a peak
  shift_max_px     3.25 (limit 16)
  shift_p95_px     0.5 (limit 2, rounding alone 0.4)
  oks_min          0.91 (limit 0.95)
  score_shift_max  1e-05 (limit 0.08)
"""


@pytest.fixture
def script(root):
    return runpy.run_path(str(root / "scripts" / "export_table.py"))


def bench(*sizes):
    batches = [
        {"batch_size": n, "crops_per_s": 10.0 * n, "share": 0.5, "matrix_dtype": "bfloat16", "matrix_tflops": 2.0}
        for n in sizes
    ]
    return {"cores": 2, "batches": batches}


def process(code, out="", err=""):
    return subprocess.CompletedProcess([], code, out, err)


def test_rows(script):
    rows = list(script["rows"]())
    assert len(rows) == len(set(rows)) == 4 * (3 + 3 + 3 + 4 + 4)
    chosen = [row for row in rows if script["wanted"](row, ["person-nano,onnx", "pose17-small,pt2,bfloat16"])]
    assert [row.key() for row in chosen] == [
        "pose17-small,pt2,bfloat16",
        *(f"person-nano,onnx,{mode}" for mode in ("float32", "float16", "bfloat16", "int8")),
    ]
    assert not any(script["wanted"](row, ["pose17"]) for row in rows)
    left_out = [row for row in rows if not script["wanted"](row, [])]
    assert {(row.format, row.mode) for row in left_out} == {
        *((form, "float16") for form in ("eager", "pt2", "pt2 --compile", "onnx")), ("pt2 --compile", "float32"),
    }  # fmt: skip
    assert {row.model for row in left_out} == {"sapiens-0.3b-wholebody133"}
    assert all(script["wanted"](row, [row.key()]) for row in left_out)


def test_a_row_says_what_was_measured(script):
    row = script["Row"]("pose17-small", "pt2", "bfloat16")
    found = {"problem": None, "size_mb": 2.34, "bench": bench(1, 8), **script["parsed"](PRINTED)}
    assert found["check"] == {"shift_max_px": 3.25, "shift_p95_px": 0.5, "oks_min": 0.91, "score_shift_max": 1e-5}
    assert found["limits"]["shift_p95_px"] == 2
    cells = [cell.strip() for cell in script["line"](row, found).strip("|").split("|")]
    assert cells == [
        "pose17-small", "`pt2`", "bfloat16", "2.3", "passed", "3.25", "0.5", "0.9100", "1e-05",
        "10", "50 %", "80", "50 %",
    ]  # fmt: skip
    table = script["markdown"]({row: found})
    assert "Measured on 2 cores" in table and "2 to 2 TFLOP/s in bfloat16" in table
    columns = {text.count("|") for text in table.splitlines() if text.startswith("|")}
    assert len(columns) == 1


def test_a_row_says_why_it_failed(script):
    gate = process(1, PRINTED + "  FAILED: oks_min is 0.91, the limit is 0.95\nx.pt2 was not written\n")
    assert script["reason"](gate) == "gate: oks_min is 0.91, the limit is 0.95"
    assert script["reason"](process(2, "", "hpe-lite export: no float16 | here\n")) == "no float16 | here"
    assert script["reason"](process(-9)) == "exit status -9"
    found = {"problem": "no float16 | here", "size_mb": None, "bench": None, "check": {}, "limits": {}}
    text = script["line"](script["Row"]("pose17-small", "onnx", "float16"), found)
    assert "no float16 / here" in text and text.count("|") == 14


def run(root, monkeypatch, tmp_path, *words):
    """The script with rows that cost nothing; returns the rows it made."""
    made = []
    names = runpy.run_path(str(root / "scripts" / "export_table.py"))

    def make(row, folder, seconds, keep):
        made.append(row.key())
        return {"problem": None, "size_mb": len(made), "check": {}, "limits": {}, "bench": bench(1), "seconds": 1.0}

    monkeypatch.setitem(names["main"].__globals__, "make", make)
    monkeypatch.setattr(sys, "argv", ["export_table.py", "--output", str(tmp_path / "table.json"), *words])
    names["main"]()
    return made


def test_finished_rows_are_kept_and_the_table_is_put_between_its_markers(root, monkeypatch, tmp_path):
    page = tmp_path / "export.md"
    page.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    words = ["--write", str(page), "--only", "person-nano,eager"]
    assert len(run(root, monkeypatch, tmp_path, *words)) == 3
    assert run(root, monkeypatch, tmp_path, *words) == []
    assert len(run(root, monkeypatch, tmp_path, *words, "--again")) == 3
    assert len(run(root, monkeypatch, tmp_path, *words[:2], "--only", "pose17-small,pt2,float32")) == 1
    text = page.read_text()
    assert text.startswith("before\n<!-- table: begin -->\n") and text.endswith("<!-- table: end -->\nafter\n")
    assert "old" not in text
    assert text.index("pose17-small") < text.index("person-nano")
    assert text.count("\n| p") == 4 == len(json.loads((tmp_path / "table.json").read_text()))
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="expected the lines"):
        run(root, monkeypatch, tmp_path, *words)
    assert page.read_text() == "no markers"
