"""Writes the generated parts of the clients from server/src/openapi.json.

    python3 server/clients/generate            writes them
    python3 server/clients/generate --check    exit 1 if one is not what would be written

Standard library only. What is between the two marker lines of a file is generated;
the rest of it, and how calls are made, is written by hand.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import document  # noqa: E402
import python  # noqa: E402
import rust  # noqa: E402
import typescript  # noqa: E402

FROM, TO = "generated from here", "generated up to here"


def within(path: pathlib.Path, generated: str) -> str:
    lines = path.read_text(encoding="utf-8").split("\n")
    marks = [[at for at, line in enumerate(lines) if mark in line] for mark in (FROM, TO)]
    if [len(mark) for mark in marks] != [1, 1]:
        raise SystemExit(f"{path}: keep one line with `{FROM}` and one with `{TO}`")
    (start,), (end,) = marks
    return "\n".join(lines[: start + 1] + generated.rstrip("\n").split("\n") + lines[end:])


def main() -> int:
    known = document.Document(str(HERE.parents[1] / "src" / "openapi.json"))
    clients = HERE.parent
    python_file = clients / "python" / "hongbao.py"
    typescript_file = clients / "typescript" / "hongbao.ts"
    texts = {
        python_file: within(python_file, python.write(known)),
        typescript_file: within(typescript_file, typescript.write(known)),
        clients / "rust" / "src" / "types.rs": rust.types(known),
        clients / "rust" / "src" / "calls.rs": rust.calls(known),
    }
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path} is not what openapi.json says: run python3 server/clients/generate", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
