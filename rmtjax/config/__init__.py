"""The one configuration tree. `rmtjax/config/fields.py` lists its fields, defaults and meanings.

A config file is Python, and loading it executes it: read a config from somebody else before you run it.
"""

from rmtjax.config.checks import quantile as quantile
from rmtjax.config.fields import CIFAR10_C as CIFAR10_C
from rmtjax.config.fields import CORRUPTIONS as CORRUPTIONS
from rmtjax.config.fields import DROPOUT_SITES as DROPOUT_SITES
from rmtjax.config.fields import TEXT_SETS as TEXT_SETS
from rmtjax.config.fields import TEXT_STRENGTHS as TEXT_STRENGTHS
from rmtjax.config.fields import about as about
from rmtjax.config.fields import base as base
from rmtjax.config.fields import each_field as each_field
from rmtjax.config.listing import fields as fields
from rmtjax.config.listing import first_sentence as first_sentence
from rmtjax.config.listing import located as located
from rmtjax.config.listing import shipped as shipped
from rmtjax.config.loading import differing_fields as differing_fields
from rmtjax.config.loading import flat as flat
from rmtjax.config.loading import from_stored as from_stored
from rmtjax.config.loading import load as load
from rmtjax.config.loading import smoke as smoke
from rmtjax.config.loading import to_json as to_json
from rmtjax.config.validation import check_generator_kind as check_generator_kind
from rmtjax.config.validation import dropout_sites as dropout_sites
from rmtjax.config.validation import duration as duration
from rmtjax.config.validation import get as get
from rmtjax.config.validation import is_text as is_text
from rmtjax.config.validation import validate as validate
