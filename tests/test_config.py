import pathlib

import pytest

from rmtjax import config as config_lib
from rmtjax.errors import InputError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
FILES = sorted(path for path in CONFIGS.glob("*.py") if not path.name.startswith("arms"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_config_loads_from_any_folder_and_shrinks(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_lib.load(str(path))
    assert config.is_locked
    config_lib.validate(config_lib.smoke(config))
    assert config.train.total_steps == 4


def test_overrides_take_the_fields_types():
    config = config_lib.load(
        str(CONFIGS / "digits.py"),
        ["optim.learning_rate=1e-2", "data.test_examples=7", "model.init_from=None", "train.mesh.fsdp=2",
         "evaluation.ood=letters,digits", "data.source=npz:a=b.npz", "optim.clip_norm=None"],
    )  # fmt: skip
    assert config.optim.learning_rate == 0.01
    assert config.data.test_examples == 7
    assert config.model.init_from is None
    assert config.train.mesh.fsdp == 2
    assert config.evaluation.ood == ("letters", "digits")
    assert config.data.source == "npz:a=b.npz"
    assert config.optim.clip_norm is None


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.trian_examples=3", "unknown field 'data.trian_examples': did you mean 'data.train_examples'?"),
        ("share=0.5", "unknown field 'share': did you mean 'synthetic.share'?"),
        ("synthetic.share=1.5", "synthetic.share=1.5 is out of range: it must be between 0 and 1"),
        (
            "regularization.dropout=-0.1",
            "regularization.dropout=-0.1 is out of range: it must be at least 0 and below 1",
        ),
        (
            "regularization.weight_decay=-1.0",
            "regularization.weight_decay=-1.0 is out of range: it must be 0 or more",
        ),
        ("train.batch_size=many", "train.batch_size='many' is not of the right type: an integer is wanted"),
        ("optim.name=adma", "optim.name='adma' is out of range: it must be one of adamw, adam_l2, sgd"),
        ("train.accumulate=3", "train.batch_size=64 is not a multiple of train.accumulate=3"),
        (
            "model.vit.pool=class_and_distillation",
            "model.vit.pool='class_and_distillation' needs model.vit.distillation_token=True",
        ),
        ("model.vit.pool=class_and_mean", "model.vit.pool='class_and_mean' needs model.vit.class_token=True"),
        (
            "model.vit.distillation_token=True",
            "model.vit.distillation_token=True needs model.vit.class_token=True",
        ),
        (
            "optim.freeze=(",
            "optim.freeze='(' is not a regular expression: missing ), unterminated subpattern at position 0",
        ),
        ("model.vit.patch=0", "model.vit.patch=0 is out of range: it must be 1 or more"),
        (
            "synthetic.learning_rate=-1.0",
            "synthetic.learning_rate=-1.0 is out of range: it must be 0 or more",
        ),
        (
            "train.batch_size=None",
            "train.batch_size=None is not a value: leave the field as it is, or give it one",
        ),
        (
            "train.sharding=(('(','fsdp'),)",
            "train.sharding=(('(', 'fsdp'),) is out of range: "
            "it must be pairs of a regular expression and 'fsdp' or 'replicate'",
        ),
        (
            "model.mean=(0.5,0.5)",
            "model.mean=(0.5, 0.5) is out of range: it must be one number, or three, one a channel",
        ),
        (
            "model.std=(0.5,0.5,0.5)",
            "model.mean=0.5 and model.std=(0.5, 0.5, 0.5) are not alike: give both one number, or three",
        ),
        (
            "model.batch_norm.frozen=True",
            "model.batch_norm.frozen=True is for resnet: model.name='vit' has no batch norm, set it to False",
        ),
        ("seed", "override 'seed' has no value: write --config.seed=VALUE"),
    ],
)
def test_a_bad_override_is_one_sentence(override, sentence):
    with pytest.raises(InputError) as error:
        config_lib.load(str(CONFIGS / "digits.py"), [override])
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.source=trec"],
         "model.name='vit' does not fit data.source='trec', which holds texts: use bert"),
        (["model.name=bert"],
         "model.name='bert' does not fit data.source='digits', which holds images: use vit, resnet or mlp"),
        (["augment.text.random_swap=0.1"],
         "augment.text.random_swap is for texts, and data.source='digits' holds images: set it back to 0"),
        (["data.source=texts:a.csv", "model.name=bert", "augment.rotation=0.1"],
         "augment.rotation is for images, and data.source='texts:a.csv' holds texts: set it back to 0"),
        (["data.source=subj", "model.name=bert"],
         "evaluation.shifts=corrupted is for images, and data.source='subj' holds texts: leave it out"),
        (["data.source=subj", "model.name=bert", "evaluation.shifts=()", "data.max_tokens=600"],
         "data.max_tokens=600 is more than model.bert.positions=512: lower it"),
        (["data.source=subj", "model.name=bert", "synthetic.share=0.5"],
         "synthetic.method='flow' does not make texts, which data.source='subj' holds: "
         "use lm, infill, ngram, repeat or import"),
        (["synthetic.method=lm", "synthetic.share=0.5"],
         "synthetic.method='lm' does not make images, which data.source='digits' holds: "
         "use flow, memoriser, gaussian, repeat or import"),
        (["model.name=resnet", "regularization.dropout=0.1", "regularization.dropout_sites=attention"],
         "regularization.dropout=0.1 acts nowhere: "
         "model.name='resnet' has no dropout at dropout_sites=attention, its sites are mlp, residual, head"),
        (["model.name=mlp", "model.mlp.depth=1", "regularization.dropout=0.1",
          "regularization.dropout_sites=mlp,residual"],
         "regularization.dropout=0.1 acts nowhere: "
         "model.name='mlp' has no dropout at dropout_sites=mlp, residual, its sites are head"),
        (["model.name=mlp", "model.mlp.widths=(8, 0)"],
         "model.mlp.widths=(8, 0) is out of range: it must be a tuple of whole numbers of 1 or more"),
        (["augment.text.random_swap=1.1"],
         "augment.text.random_swap=1.1 is out of range: it must be between 0 and 1"),
    ],
)  # fmt: skip
def test_model_and_augmentation_must_fit_images_or_texts(overrides, sentence):
    with pytest.raises(InputError) as error:
        config_lib.load(str(CONFIGS / "digits.py"), overrides)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("c.data.sorce = 'x'", "did you mean 'data.source'?"),
        ("c.optmi.learning_rate = 0.1", "did you mean 'optim"),
        ("c.seed = 'one'", "seed"),
        ("c.synthetic.share = 2.0", "synthetic.share=2.0 is out of range"),
    ],
)
def test_a_bad_config_file_is_one_sentence(body, part, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        f"from rmtjax import config\ndef get_config():\n    c = config.base()\n    {body}\n    return c\n"
    )
    with pytest.raises(InputError) as error:
        config_lib.load(str(path))
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_config_file_is_named():
    with pytest.raises(InputError, match=r"no config file 'nowhere\.py'"):
        config_lib.load("nowhere.py")


def test_durations_in_steps_epochs_or_examples():
    config = config_lib.base()
    assert config_lib.duration(config, "train.total", 400) == 300
    config.train.update(total_steps=None, total_epochs=2.5)
    assert config_lib.duration(config, "train.total", 400) == 16  # 1,000 examples by 64, rounded up
    config.train.update(total_epochs=None, total_examples=64 * 7)
    assert config_lib.duration(config, "train.total", 400) == 7
    config.train.total_steps = 5
    with pytest.raises(InputError, match="give exactly one of"):
        config_lib.duration(config, "train.total", 400)


def test_stored_configs_come_back_equal_and_differences_are_named():
    import json

    config = config_lib.load(str(CONFIGS / "augmented.py"))
    stored = json.loads(config_lib.to_json(config))
    assert config_lib.differing_fields(config, stored) == []
    assert config_lib.from_stored(stored) == config
    config.optim.learning_rate = 0.5
    assert config_lib.differing_fields(config, stored) == ["optim.learning_rate: 0.0005 -> 0.5"]
    # An older version did not know some fields: they had their defaults.
    del stored["spectra"]["products"]
    assert len(config_lib.differing_fields(config, stored)) == 1
    config.spectra.products = True
    assert "spectra.products: False -> True" in config_lib.differing_fields(config, stored)


def test_the_report_knows_which_fields_of_texts_are_no_strengths():
    from rmtjax.report import words

    fields = set(config_lib.base().augment.text)
    assert fields - set(config_lib.TEXT_STRENGTHS) == set(words._NO_STRENGTHS)
