"""Groups of a model's layers, and the one aggregation over the layers of a group.

This file decides what counts as the head: the rows of a spectral table whose `kind` is "head"
(`spectra.rules` gives a layer its kind). Every table, figure and page asks `layer_groups`; none looks at
names.
"""

import pandas as pd

from rmtjax.spectra import alpha_spread

HEAD = "head"
ACTIVATION = "activation"  # rows that are of no weights
BACKBONE = "backbone"  # all layers but the head
_OTHER = "other"  # kinds without a group of their own: in the backbone alone
_GROUP_OF_KIND = {
    "attention_query": "q",
    "attention_key": "k",
    "attention_value": "v",
    "attention_out": "o",
    "attention_qk": "qk",
    "attention_vo": "vo",
    "mlp": "mlp",
    "conv": "conv",
    "conv_depthwise": "conv",
    "embedding": "embedding",
    "position_embedding": "embedding",
    "patch_embedding": "embedding",
    "head": HEAD,
    "activation": ACTIVATION,
}
PRODUCTS = ("qk", "vo")  # of the weights of other rows, which count once
GROUPS = (BACKBONE, *dict.fromkeys(_GROUP_OF_KIND.values()))


def layer_groups(table: pd.DataFrame) -> pd.Series:
    """The group of layers of each row of a spectral table, by its `kind`.

    Groups are "head", "q", "k", "v", "o", "qk", "vo", "mlp", "conv", "embedding" and "activation"; "other"
    stands for kinds without a group of their own. All groups but "head", "activation" and the products "qk"
    and "vo" make up the backbone.
    """
    return table["kind"].map(_GROUP_OF_KIND).fillna(_OTHER)


def in_backbone(table: pd.DataFrame) -> pd.Series:
    """Whether each row of a spectral table is of the backbone."""
    return ~layer_groups(table).isin([HEAD, ACTIVATION, *PRODUCTS])


def of_model(table: pd.DataFrame) -> pd.DataFrame:
    """`spectra.alpha_spread` over the backbone at each stage: columns stage, group, metric, value."""
    rows = [
        (stage, BACKBONE, metric, value)
        for stage, part in table[in_backbone(table)].groupby("stage", sort=False)
        for metric, value in alpha_spread(part).items()
    ]
    return pd.DataFrame(rows, columns=["stage", "group", "metric", "value"])


def group_means(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """The mean of each metric over the layers of each stage and group.

    The mean, not the median, is the one aggregation over layers of this package. It is additive: the effect
    of an arm on the mean is the mean of its effects on the layers, so every layer counts, and differences
    between arms mean the same before and after aggregation. It is also what Ba et al. (arXiv 2410.14602) do,
    though with the head among the layers.
    Layers in which a metric is not defined are left out of its mean.

    Args:
      table: a spectral table with columns stage, kind and metrics.
      metrics: those of its columns that are averaged.

    Returns columns stage, group, metric, value: stages in the order of the table, groups in the order of
    `GROUPS`. A metric that is not defined in any layer of a group is left out.
    """
    group, backbone = layer_groups(table), in_backbone(table)
    parts = []
    for stage in table["stage"].unique():
        for name in GROUPS:
            inside = backbone if name == BACKBONE else group == name
            means = table.loc[(table["stage"] == stage) & inside, metrics].mean()
            parts.append(
                pd.DataFrame({"stage": stage, "group": name, "metric": metrics, "value": means.to_numpy()})
            )
    columns = ["stage", "group", "metric", "value"]
    return pd.concat(parts, ignore_index=True).dropna() if parts else pd.DataFrame(columns=columns)
