"""How much memory a process may still use."""

from pathlib import Path

__all__ = ["free_bytes"]


def free_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that are free or could be freed, by the system and by the control group; None where neither says.

    Args:
        root: where `/proc` and `/sys` are (tests give a folder).
    """
    known = [found for found in (_of_system(root), _of_group(root)) if found is not None]
    return min(known) if known else None


def _of_system(root: Path) -> int | None:
    """MemAvailable: free, or page cache that can be dropped."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _of_group(root: Path) -> int | None:
    """The limit of the control group less its anonymous memory; of version 2 the tightest of all levels."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    free = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        names = ("memory.max", "anon") if not kinds else ("memory.limit_in_bytes", "total_rss")
        if kinds and "memory" not in kinds.split(","):
            continue
        folder = root / "sys/fs/cgroup" / ("memory" if kinds else ".") / path.lstrip("/")
        top = root / "sys/fs/cgroup"
        while folder != top.parent and folder.is_relative_to(top):
            limit = _number(folder / names[0])
            if limit is not None and limit < 1 << 60:
                free.append(max(0, limit - _statistic(folder / "memory.stat", names[1])))
            folder = folder.parent
    return min(free) if free else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
