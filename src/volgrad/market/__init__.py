"""Conventions and mathematics of option markets: pure functions of their arguments.

    instruments  option contracts, the exchange's names, expiry and year fraction
    forward      one forward for each expiry, by a stated rule
    chain        the quotes of one moment, as the fits take them
    clock        time that runs at the market's pace
    black        Black-76 prices and Greeks
    implied      implied volatility, by `implied_solver`
    arbitrage    how far a slice or a grid is from static arbitrage
    special      the scaled tail of the normal distribution

Import the module wanted: the first four need numpy only, the others load JAX.
"""
