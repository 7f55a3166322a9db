"""Which field of a record is which canonical column: declared once, for documents, frames and tables.

Sources: the exchange's documentation, recorded answers, and that of ccxt (see `chains`, `frames` and `series`).
"""

__all__ = ["CCXT", "SUMMARY", "TICKER", "TRADE", "TRADE_SHORT"]

#: Numbers of a book summary.
SUMMARY = {
    "bid": "bid_price", "ask": "ask_price", "underlying": "underlying_price", "mark": "mark_price",
    "mark_iv": "mark_iv", "oi": "open_interest",
}  # fmt: skip
#: Numbers of a ticker or order book.
TICKER = {
    "bid": "best_bid_price", "ask": "best_ask_price", "underlying": "underlying_price", "mark": "mark_price",
    "mark_iv": "mark_iv", "bid_iv": "bid_iv", "ask_iv": "ask_iv", "bid_size": "best_bid_amount",
    "ask_size": "best_ask_amount", "oi": "open_interest",
}  # fmt: skip
#: Numbers of an entry of ccxt's option chains.
CCXT = {
    "bid": "bidPrice", "ask": "askPrice", "underlying": "underlyingPrice", "mark": "markPrice", "oi": "openInterest",
}  # fmt: skip
#: Numbers of a trade; beside them stand `direction` and `trade_id`, which are text.
TRADE = {"price": "price", "amount": "amount", "iv": "iv", "index_usd": "index_price", "mark": "mark_price"}
#: Other names of a trade's fields in tables: those of one archive, and of Tardis.
TRADE_SHORT = {"price": "p", "amount": "q", "direction": "side", "trade_id": "id"}
