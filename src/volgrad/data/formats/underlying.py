"""The underlying of a series whose rows do not name it: as said by the user, else by the file's name."""

import re
from pathlib import PurePath

from volgrad.errors import InputError

__all__ = ["named_pair", "underlying_of"]

_PAIR = re.compile(r"(?P<base>[a-z0-9]{2,8}?)(?P<quote>usdt|usdc|usd|busd|fdusd|perp)")
# Coins with listed options, and the large ones beside them; other names are understood as a pair (dogeusdt).
_COINS = {
    "btc": "BTC", "xbt": "BTC", "bitcoin": "BTC", "eth": "ETH", "ethereum": "ETH", "sol": "SOL", "xrp": "XRP",
    "bnb": "BNB", "doge": "DOGE", "avax": "AVAX", "trx": "TRX", "paxg": "PAXG", "matic": "MATIC", "ltc": "LTC",
    "bch": "BCH", "ada": "ADA",
}  # fmt: skip


def underlying_of(name: str, given: str | None) -> tuple[str, str | None]:
    """The underlying and, where the file's name said it, a note.

    Raises:
        InputError: neither says it, or the name says two.

    >>> underlying_of("data/btcusdt_1h_2024.csv.gz", None)
    ('BTC', "the underlying BTC is taken from the file's name")
    >>> underlying_of("hourly.csv", None)
    Traceback (most recent call last):
    ...
    volgrad.errors.InputError: hourly.csv: neither its columns nor its name say the underlying; give --underlying, ...
    """
    if given is not None:
        return given.strip().upper(), None
    found = sorted({coin for token in _tokens(name) if (coin := _coin(token))})
    if len(found) == 1:
        return found[0], f"the underlying {found[0]} is taken from the file's name"
    said = "neither its columns nor its name say the underlying"
    if found:
        said = f"its name says more than one underlying ({', '.join(found)})"
    raise InputError(f"{name}: {said}; give --underlying, such as --underlying BTC.", file=name)


def named_pair(name: str) -> str | None:
    """The first pair of the file's name, such as BTCUSDT.

    >>> named_pair("btcusdt_1h.csv"), named_pair("btc_daily.csv")
    ('BTCUSDT', None)
    """
    return next((token.upper() for token in _tokens(name) if _PAIR.fullmatch(token)), None)


def _tokens(name: str) -> list[str]:
    return [token for token in re.split(r"[^a-z0-9]+", PurePath(name).name.lower()) if token]


def _coin(token: str) -> str | None:
    if token in _COINS:
        return _COINS[token]
    pair = _PAIR.fullmatch(token)
    return None if pair is None else _COINS.get(pair["base"], pair["base"].upper())
