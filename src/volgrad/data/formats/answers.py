"""Answers of the exchanges that hold nothing: errors, and lists without a record."""

from typing import Any

__all__ = ["fault_of", "is_empty"]

_LONGEST = 200
_DEEPEST = 6
_AROUND = frozenset(("result", "data", "list", "trades", "jsonrpc", "retCode", "code"))


def fault_of(value: object) -> str | None:
    """The error that an answer states, as the exchange says it; None where it states none.

    Deribit has an `error`, OKX and Binance a `code` with `msg`, Bybit a `retCode` with `retMsg` (documentation); 0 is
    no error.

    >>> fault_of({"jsonrpc": "2.0", "error": {"code": 10028, "message": "too_many_requests"}})
    '10028 too_many_requests'
    >>> fault_of({"code": "50011", "msg": "Too Many Requests", "data": []})
    '50011 Too Many Requests'
    """
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return _told(error.get("code"), error.get("message"))
    for code, message in (("code", "msg"), ("retCode", "retMsg")):
        said = value.get(code)
        if isinstance(said, int | str) and str(said) not in ("0", "") and isinstance(value.get(message), str):
            return _told(said, value[message])
    return None


def is_empty(value: object, depth: int = 0) -> bool:
    """Whether a value is a list, or an answer around lists, without a record.

    >>> is_empty([]), is_empty({"jsonrpc": "2.0", "result": {"trades": []}, "usOut": 1}), is_empty({"hello": "world"})
    (True, True, False)
    """
    if depth > _DEEPEST:
        return False
    if isinstance(value, list):
        return all(isinstance(part, list | dict) and is_empty(part, depth + 1) for part in value)
    if not isinstance(value, dict):
        return False
    parts = [part for part in value.values() if isinstance(part, list | dict)]
    around = not value or bool(value.keys() & _AROUND) or depth > 0
    return around and (bool(parts) or not value) and all(is_empty(part, depth + 1) for part in parts)


def _told(code: Any, message: Any) -> str:
    words = " ".join(str(part) for part in (code, message) if part is not None)
    return " ".join(words.split())[:_LONGEST] or "without a word"
