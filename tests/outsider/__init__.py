"""The whole program in the hands of strangers: wrong calls, odd files, broken plugins, hostile surroundings.

Cases are made by rule (`calls`, `pictures`, `checkpoints`, `exports`, `broken_plugins`, `starters`, `surroundings`), run each in a process of its own
(`house`) and judged by one set of rules (`case`). What is sent to a service (`uploads`) goes through a socket to one that stays (`server`).
``make test`` runs a share of them and one of every kind, ``make outsider`` all.
"""
