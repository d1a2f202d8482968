"""The point-in-time join itself: of each key the row that was the latest known one at a time.

Times are integers, microseconds since 1970. Nothing here knows of databases.
"""

import polars as pl


def latest(entities: pl.DataFrame, rows: pl.DataFrame, *, late: bool) -> pl.Series:
    """For N entities the place of the row of their key that was the latest known at ``at``, or null (N,).

    ``entities``: ``code``, a number for the key, null for none, and ``at``, null for none. ``rows``, in any order:
    ``code``, null for a key that no entity has, ``at``, and then what decides between rows at one time, column by
    column, the largest first, null last. Rows at exactly ``at`` count. ``late``: a row is unknown before its time in
    the column ``created``, which has no null.
    """
    known = _ranked(rows)
    if late:
        # In the order in which rows become known, the best so far is a running maximum of the rank.
        row, created = known["row"], rows["created"].gather(known["row"])
        visible = known.select("code", at=pl.max_horizontal("at", created)).with_row_index("rank")
        visible = visible.sort(MOMENT)
        known = visible.with_columns(row=row.gather(visible["rank"].cum_max()))
    wanted = entities.with_row_index("entity").drop_nulls().sort(MOMENT)
    found = wanted.select("entity", "code", MOMENT).join_asof(known.select("code", "row", MOMENT), on="moment")
    found = found.filter(pl.col("code") == pl.col("code_right"))
    everybody = entities.select(pl.int_range(pl.len(), dtype=pl.get_index_type()).alias("entity"))
    return everybody.join(found, on="entity", how="left", maintain_order="left")["row"]


MOMENT = (pl.col("code").cast(pl.Int128) * 2**64 + pl.col("at")).alias("moment")
"""Key and time in one number: by the two columns polars sorts and joins at twice the cost."""


def _ranked(rows: pl.DataFrame) -> pl.DataFrame:
    """Code, time and place ``row`` of the rows, by key and time, and of those at one time the one that wins last."""
    placed = rows.with_row_index("row").drop_nulls("code")
    ranked = placed.select("code", "at", "row").sort(MOMENT)
    tied = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in ("code", "at"))
    if ranked.select(tied.any()).item():
        others = [name for name in rows.columns if name not in ("code", "at")]
        ranked = placed.sort("code", "at", *others).select("code", "at", "row")
    return ranked
