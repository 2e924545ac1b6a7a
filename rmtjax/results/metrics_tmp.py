_ST = [
    "alpha",
    "alpha_hill",
    "stable_rank",
    "effective_rank",
    "entropy",
    "log_norm",
    "log_spectral_norm",
    "mp_softrank",
    "num_spikes",
    "ks_mp",
]
_UP = [
    "norm_ratio",
    "spectral_ratio",
    "cosine",
    "update_energy_top",
    "update_energy_bottom",
    "overlap_left",
    "overlap_right",
    "intruders_left",
    "intruders_right",
]
METRICS = dict.fromkeys(_ST + _UP)
_PLACES = {
    "study": _ST,
    "update": _UP,
    "results": [
        "alpha",
        "stable_rank",
        "log_norm",
        "log_spectral_norm",
        "entropy",
        "mp_softrank",
        "norm_ratio",
    ],
    "overview": ["alpha", "stable_rank", "norm_ratio"],
}


def shown(place):
    return _PLACES[place]
