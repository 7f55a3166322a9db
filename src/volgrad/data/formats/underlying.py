"""The underlying of a series: what its rows' symbols say, else the file's name, else the user.

Each is asked only where the one before is silent; where two that speak contradict each other, the source is refused.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import PurePath

from volgrad.errors import InputError

__all__ = ["check_symbols", "named_option", "named_pair", "symbol_underlying", "underlying_of"]

_PAIR = re.compile(r"(?P<base>[a-z0-9]{2,8}?)(?P<quote>usdt|usdc|usd|busd|fdusd|perp)")
# what no other word ends in, so that what stands before it is a coin though it is not among those known
_PLAIN_QUOTES = frozenset(("usdt", "usdc", "busd", "fdusd"))
# Coins with listed options, and the large ones beside them; other names are understood as a pair (dogeusdt).
_COINS = {
    "btc": "BTC", "xbt": "BTC", "bitcoin": "BTC", "eth": "ETH", "ethereum": "ETH", "sol": "SOL", "xrp": "XRP",
    "bnb": "BNB", "doge": "DOGE", "avax": "AVAX", "trx": "TRX", "paxg": "PAXG", "matic": "MATIC", "ltc": "LTC",
    "bch": "BCH", "ada": "ADA",
}  # fmt: skip
_OPTION = re.compile(
    r"(?<![A-Z0-9])[A-Z][A-Z0-9]{1,9}(?:[-_]USD[CT]?)?"
    r"(?:[-_]\d{1,2}[A-Z]{3}\d{2}[-_]\d+(?:[.D]\d+)?[-_]|-\d{6}-\d+(?:[.D]\d+)?-)[CP](?![A-Z0-9])"
)


def underlying_of(name: str, given: str | None) -> tuple[str, str | None]:
    """The underlying by the file's name, else as `given` by the user, and a note where the name said it.

    Raises:
        InputError: neither says it, the name says two, or the two contradict each other.

    >>> underlying_of("data/btcusdt_1h_2024.csv.gz", None)
    ('BTC', "the underlying BTC is taken from the file's name")
    >>> underlying_of("hourly.csv", "eth")
    ('ETH', None)
    >>> underlying_of("hourly.csv", None)
    Traceback (most recent call last):
    ...
    volgrad.errors.InputError: hourly.csv: neither its columns nor its name say the underlying; give --underlying, ...
    """
    option = _option(given)
    plain = _plain_in(name)
    if option is not None:
        if plain and option not in plain:
            raise InputError(
                f"{name}: its name says {' and '.join(plain)} and --underlying says {option}; read it apart, without "
                "--underlying, or name it after what it holds.",
                file=name,
            )
        return option, None
    found = plain or sorted({coin for token in _tokens(name) if (coin := _coin(token))})
    if len(found) == 1:
        return found[0], f"the underlying {found[0]} is taken from the file's name"
    said = "neither its columns nor its name say the underlying"
    if found:
        said = f"its name says more than one underlying ({', '.join(found)})"
    raise InputError(f"{name}: {said}; give --underlying, such as --underlying BTC.", file=name)


def symbol_underlying(symbol: str) -> str | None:
    """The underlying that a row's symbol names; None where it is no pair of a coin that is known.

    >>> symbol_underlying("ETHUSDT"), symbol_underlying("btc_usd"), symbol_underlying("BTC-PERPETUAL")
    ('ETH', 'BTC', 'BTC')
    """
    tokens = _words(symbol)
    return _coin(tokens[0]) if tokens and _is_plain(tokens[0]) else None


def check_symbols(name: str, given: str | None, symbols: Mapping[str, str]) -> None:
    """Refuse a source whose rows' symbols (symbol -> underlying) contradict the user or the file's name.

    Raises:
        InputError: they do.

    >>> check_symbols("hourly.csv", "BTC", {"ETHUSDT": "ETH"})
    Traceback (most recent call last):
    ...
    volgrad.errors.InputError: hourly.csv: its column symbol says ETH ('ETHUSDT') and --underlying says BTC; ...
    """
    option = _option(given)
    told: list[tuple[str, Collection[str], str]] = [
        ("--underlying says", () if option is None else (option,), "read it apart, without --underlying"),
        ("its name says", _plain_in(name), "name it after what it holds, or mend the column"),
    ]
    for speaker, coins, mend in told:
        for symbol, coin in symbols.items():
            if coins and coin not in coins:
                raise InputError(
                    f"{name}: its column symbol says {coin} ({symbol!r}) and {speaker} {' and '.join(coins)}; {mend}.",
                    file=name,
                )


def named_option(name: str) -> str | None:
    """The option that a symbol, or a file's name without its folders, names; None where it names none.

    >>> named_option("charts/BTC-27DEC24-60000-C.json"), named_option("BTC-PERPETUAL.json")
    ('BTC-27DEC24-60000-C', None)
    """
    found = _OPTION.search(name.replace("\\", "/").rpartition("/")[2].upper())
    return found and found[0]


def named_pair(name: str) -> str | None:
    """The first pair of the file's name, such as BTCUSDT.

    >>> named_pair("btcusdt_1h.csv"), named_pair("btc_daily.csv")
    ('BTCUSDT', None)
    """
    return next((token.upper() for token in _tokens(name) if _PAIR.fullmatch(token)), None)


def _option(given: str | None) -> str | None:
    return None if given is None else given.strip().upper()


def _plain_in(name: str) -> list[str]:
    """The underlyings that a file's name says beyond doubt."""
    return sorted({coin for token in _tokens(name) if _is_plain(token) and (coin := _coin(token))})


def _tokens(name: str) -> list[str]:
    return _words(PurePath(name).name)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]


def _is_plain(token: str) -> bool:
    pair = _PAIR.fullmatch(token)
    return token in _COINS or (pair is not None and (pair["base"] in _COINS or pair["quote"] in _PLAIN_QUOTES))


def _coin(token: str) -> str | None:
    if token in _COINS:
        return _COINS[token]
    pair = _PAIR.fullmatch(token)
    return None if pair is None else _COINS.get(pair["base"], pair["base"].upper())
