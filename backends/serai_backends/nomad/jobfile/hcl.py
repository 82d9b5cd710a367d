"""The same job in Nomad's own language, for an operator who wants to read it, or run it by hand.

`nomad job run -output` of it gives what `build` gives: nothing is left out, and no text changes (tested).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from serai_backends.nomad import names
from serai_backends.nomad.jobfile import scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serai_backends.nomad.jobfile.model import JSON, JobFile

_NAMES = {
    "LTarget": "attribute",
    "Operand": "operator",
    "RTarget": "value",
    "CPU": "cpu",
    "MemoryMB": "memory",
    "SizeMB": "size",
    "MaxFileSizeMB": "max_file_size",
    "DestPath": "destination",
    "EmbeddedTmpl": "data",
    "LeftDelim": "left_delimiter",
    "RightDelim": "right_delimiter",
    "Envvars": "env",
    "Value": "static",
    "RestartPolicy": "restart",
    "ReschedulePolicy": "reschedule",
    "LogConfig": "logs",
    "Constraints": "constraint",
    "TaskGroups": "group",
    "Tasks": "task",
    "Networks": "network",
    "DynamicPorts": "port",
    "ReservedPorts": "port",
    "Devices": "device",
    "Volumes": "volume",
    "VolumeMounts": "volume_mount",
    "Templates": "template",
}
_LABELS = {"TaskGroups": "Name", "Tasks": "Name", "Devices": "Name", "DynamicPorts": "Label", "ReservedPorts": "Label"}
_DURATIONS = {"Interval", "Delay", "MaxRunDuration", "KillTimeout", "Splay", "Min", "Max"}
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1, "ns"))
_UNKNOWN = re.compile(r"\\.|\x7f")
"""Each escape of JSON, as a whole: what is behind a backslash that is one itself begins none."""
_ESCAPES = {r"\b": r"\u0008", r"\f": r"\u000c", "\x7f": r"\u007f"}
"""Those that the language does not have."""
_ABOUT = {
    "Meta": "By these Serai knows the job again.",
    "RestartPolicy": "Never twice: not on the same node, not on another, not when a lost node comes back.",
    "MaxRunDuration": "Far behind the job's own limit, which Serai keeps.",
    "Constraints": "Of the placement in serai.toml.",
    "Resources": "Of the machine type.",
}
_ABOUT_TASKS = {
    names.FIREWALL: "Closes the replica's network but for its own job, its peers and the outside. The program waits for it.",
    names.MAIN: "The program of the job, by the start script below.",
}
_ABOUT_FILES = {
    scripts.NODES: "The barrier: nothing starts before the variable has the address of every rank.",
    scripts.START: "Guard, /etc/ucloud, logs; then it becomes the program.",
    scripts.NODE: "Before that, as root: a view of files of the replica's own.",
    scripts.RULES: "Loads the rules, and loads them again when the variable changes.",
    scripts.SCRIPT: "The application is a script: /etc/ucloud/script.sh.",
}


def hcl(job: JobFile) -> str:
    """A job of `build` as a job specification in HCL."""
    inside = {name: value for name, value in job.items() if name not in {"ID", "Name"}}
    lines = ["# Made by Serai. A job that Serai has registered must not be registered again: that starts ranks that have ended anew."]
    lines += [f"job {_string(str(job['ID']))} {{", *_indent(_body(inside)), "}"]
    return "\n".join(lines) + "\n"


def _indent(lines: Iterator[str]) -> Iterator[str]:
    """Texts of several lines keep theirs: what is in a heredoc is not ours to move."""
    for line in lines:
        first, newline, rest = line.partition("\n")
        yield f"  {first}{newline}{rest}" if first else line


def _name(key: str) -> str:
    return _NAMES.get(key) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()


def _body(values: dict[str, JSON]) -> Iterator[str]:
    """Attributes first, as people write them; then blocks."""
    for key, value in values.items():
        if not _is_block(key, value):
            if key in _ABOUT:
                yield f"# {_ABOUT[key]}"
            yield f"{_name(key)} = {_duration(value) if key in _DURATIONS and isinstance(value, int) else _value(value)}"
    for key, value in values.items():
        if _is_block(key, value):
            yield from _blocks(key, value)


def _is_block(key: str, value: JSON) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and (key in _NAMES or any(isinstance(each, dict) for each in value)))


def _blocks(key: str, value: JSON) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _block(key, each if isinstance(each, dict) else {})
    elif isinstance(value, dict) and key == "Volumes":
        for each in value.values():
            if isinstance(each, dict):
                yield from _labelled(key, "Name", each)
    elif isinstance(value, dict):
        yield from _block(key, value)


def _block(key: str, values: dict[str, JSON]) -> Iterator[str]:
    if key in _LABELS:
        yield from _labelled(key, _LABELS[key], values)
        return
    about = _ABOUT.get(key) or _ABOUT_FILES.get(str(values.get("DestPath", "")).rpartition("/")[2])
    if about:
        yield f"# {about}"
    yield f"{_name(key)} {{"
    # names of variables, of keys in Meta and of a driver's options are theirs, not Nomad's
    free = key in {"Meta", "Env", "Config"}
    yield from _indent(_free(values) if free else _body(values))
    yield "}"


def _labelled(key: str, label: str, values: dict[str, JSON]) -> Iterator[str]:
    inside = {name: value for name, value in values.items() if name != label}
    if key == "Tasks":
        yield f"# {_ABOUT_TASKS[str(values[label])]}"
    yield f"{_name(key)} {_string(str(values[label]))} {{"
    yield from _indent(_body(inside))
    yield "}"


def _free(values: dict[str, JSON]) -> Iterator[str]:
    for key, value in values.items():
        inner = value if isinstance(value, list) else [value]
        blocks = [each for each in inner if isinstance(each, dict)]
        for each in blocks:
            yield f"{key} {{"
            yield from _indent(_free(each))
            yield "}"
        if not blocks:
            yield f"{key} = {_value(value)}"


def _duration(nanoseconds: int) -> str:
    size, unit = next((size, unit) for size, unit in _UNITS if nanoseconds % size == 0) if nanoseconds else (1, "s")
    return f'"{nanoseconds // size}{unit}"'


def _value(value: JSON) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return json.dumps(value)


def _string(text: str) -> str:
    """Quoted, with nothing left that the language would replace."""
    quoted = _UNKNOWN.sub(lambda found: _ESCAPES.get(found[0], found[0]), json.dumps(text, ensure_ascii=False))
    if "$${" in text or "%%{" in text:
        return quoted.replace("${", "\\u0024{").replace("%{", "\\u0025{")
    return quoted.replace("${", "$${").replace("%{", "%%{")


def _text(text: str) -> str:
    """Of several lines as a heredoc, where the language leaves such a text as it is."""
    plain = all(character >= " " or character in "\n\t" for character in text) and "$${" not in text and "%%{" not in text
    if "\n" not in text.rstrip("\n") or not text.endswith("\n") or not plain:
        return _string(text)
    end = "END"
    while end in text:
        end += "_"
    return f"<<{end}\n" + text.replace("${", "$${").replace("%{", "%%{") + end
