"""Plug-ins: what imports them, who owns what, and what is said of those that are missing, broken or too new."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from plugin_files import as_in_a_new_process, install
from training.tiny import RECIPE, change

import triptych
from triptych.__main__ import main
from triptych.assemble import build_model
from triptych.data.subset import spread
from triptych.datasets.mixed import Mixed
from triptych.decoders.baseline import FCN
from triptych.lookup import UnknownNameError
from triptych.named_parts import used_plugins
from triptych.plugins.loading import PluginError, load_plugin, owner, require_plugins, version_of
from triptych.prediction.predictor import Predictor
from triptych.prediction.pretrained import load_model
from triptych.recipes.config import Recipe, from_json, read_recipe, to_json
from triptych.tasks import regression
from triptych.training.loop import train

DECODER = """
import triptych
from triptych.decoders.baseline import FCN

class Mine(FCN):
    "As fcn."

triptych.register("decoders", "{name}", Mine)
"""

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module where Python finds it; the module and its parts are forgotten afterwards."""
    modules: list[str] = []

    def write_module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        modules.append(name)
        return name

    monkeypatch.syspath_prepend(tmp_path)
    with as_in_a_new_process():
        yield write_module
    for name in modules:
        sys.modules.pop(name, None)


def test_a_module_that_is_asked_for_is_recorded_with_its_parts(write: Write) -> None:
    load_plugin(write("asked_for", "__version__ = '1.4'\n" + DECODER.format(name="asked")))
    assert "asked" in triptych.available("decoders")
    assert owner("decoders", "asked") == "asked_for"
    assert version_of("asked_for") == "1.4"


def test_an_unknown_name_imports_what_is_installed(write: Write, tmp_path: Path) -> None:
    install(tmp_path, "some-package", "2.1", write("offered", DECODER.format(name="offered-decoder")))
    assert "offered" not in sys.modules
    model = triptych.create_model("offered-decoder", backbone="resnet18", tasks={"heat": regression("heat")})
    assert type(model.decoder).__module__ == "offered"
    assert version_of("offered") == "2.1"


def test_a_thread_waits_for_plugins_that_another_imports(write: Write, tmp_path: Path) -> None:
    text = "import time\ntime.sleep(0.3)\n" + DECODER.format(name="slow-decoder")
    install(tmp_path, "slow-package", "1.0", write("slow", text))
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda _: "slow-decoder" in triptych.available("decoders"), range(2))] == [True, True]


def test_one_that_fails_is_named_and_the_rest_works(write: Write, tmp_path: Path) -> None:
    broken = "import triptych\ntriptych.register('tasks', 'half', lambda: None)\nraise RuntimeError('no GPU')\n"
    install(tmp_path, "package-a", "1.0", write("a_broken", broken))
    install(tmp_path, "package-b", "1.0", write("b_works", DECODER.format(name="works")))
    with pytest.warns(UserWarning, match=r"'a_broken' failed on import: RuntimeError: no GPU \(.*a_broken.py:3\)"):
        names = triptych.available("decoders")
    assert "works" in names
    assert "half" not in triptych.available("tasks")  # nothing of half a plug-in
    with pytest.raises(PluginError, match=r"run a needs plug-in 'a_broken' 1.0: .*no GPU"):
        require_plugins({"a_broken": "1.0"}, "run a")


def test_asking_for_a_broken_one_fails(write: Write, capsys: pytest.CaptureFixture) -> None:
    name = write("exits", "import sys\nsys.exit('not here')\n")
    assert main(["list", "tasks", "--plugin", name]) == 2
    assert "error: plug-in 'exits' failed on import: SystemExit: not here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json", "plug-in 'json' registers nothing"),
        ("no_such_module", "plug-in 'no_such_module' was not found: .* no no_such_module.py"),
        ("lab/my-parts.py", "is no module; give the name that it is imported by, such as my_parts"),
    ],
)
def test_what_is_no_plugin_is_said(write: Write, name: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        load_plugin(name)


def test_one_name_from_two_packages_is_nobodys(write: Write, tmp_path: Path) -> None:
    write("twice", DECODER.format(name="twice"))
    install(tmp_path, "package-a", "1.0", "twice")
    install(tmp_path, "package-b", "3.0", "twice")
    with pytest.warns(UserWarning, match=r"offered by 2 installed packages .*package-a 1.0.*uninstall all but one"):
        assert "twice" not in triptych.available("decoders")
    with pytest.raises(PluginError, match=r"offered by 2 installed packages"):
        load_plugin("twice")


def test_two_parts_of_one_name_are_named_with_their_homes(write: Write) -> None:
    load_plugin(write("first_lab", DECODER.format(name="shared-name")))
    with pytest.raises(PluginError, match=r"'second_lab' failed .* has a 'shared-name' already \(first_lab\)"):
        load_plugin(write("second_lab", DECODER.format(name="shared-name")))
    assert owner("decoders", "shared-name") == "first_lab"


def test_one_for_another_major_version_of_triptych_is_left_out(write: Write, tmp_path: Path) -> None:
    install(tmp_path, "future", "1.0", write("of_future", DECODER.format(name="future")), requires="triptych>=7,<8")
    with pytest.warns(UserWarning, match=r"'of_future' 1.0 was made for triptych<8,>=7, this is"):
        assert "future" not in triptych.available("decoders")
    assert "of_future" not in sys.modules


def test_a_file_that_needs_another_major_version_is_refused(write: Write) -> None:
    load_plugin(write("moved_on", "__version__ = '2.0'\n" + DECODER.format(name="moved")))
    require_plugins({"moved_on": "2.9"}, "run a")
    with pytest.raises(PluginError, match=r"needs plug-in 'moved_on' 1.3, and 2.0 is loaded.*install moved_on 1.x"):
        require_plugins({"moved_on": "1.3"}, "run a")


def test_a_run_names_what_it_needs_and_imports_nothing(write: Write, tmp_path: Path, capsys) -> None:
    name = write("needed", "__version__ = '1.0'\n" + DECODER.format(name="needed-decoder"))
    recipe = change(RECIPE, model__backbone="resnet18", model__decoder="needed-decoder", schedule__steps=1)
    load_plugin(name)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert from_json((run / "recipe.json").read_text()).plugins == {"needed": "1.0"}
    assert json.loads((run / "environment.json").read_text())["starts"][0]["plugins"] == {"needed": "1.0"}
    load_model(run)

    sys.modules.pop(name)
    with as_in_a_new_process():
        with pytest.raises(PluginError, match=r"run .*run needs plug-in 'needed' 1.0, which is not loaded; .*--plugin"):
            load_model(run)
        with pytest.raises(PluginError, match=r"the recipe needs plug-in 'needed' 1.0"):
            train(triptych.load_recipe(run / "recipe.json"), tmp_path / "again", device="cpu", progress=False)
        assert name not in sys.modules  # though it lies where it could be imported
        capsys.readouterr()
        assert main(["predict", str(run), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
        assert "needs plug-in 'needed' 1.0" in capsys.readouterr().err

    (tmp_path / f"{name}.py").write_text("__version__ = '1.1'\n" + DECODER.format(name="needed-decoder"))
    with as_in_a_new_process():
        load_plugin(name)
        load_model(run)
        with pytest.raises(ValueError, match=r"plug-in needed was '1.0', now '1.1'"):
            train(change(recipe, schedule__steps=1), run, resume=True, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"__file__": "/somewhere/train_mine.py", "__spec__": None}, {"train_mine": ""}),
        ({"__file__": "/somewhere/train-mine.py"}, {}),  # a name that nothing can import
        ({}, {}),  # a notebook
    ],
)
def test_what_a_program_registers_is_of_the_module_that_others_can_import(names: dict, found: dict) -> None:
    recipe = change(RECIPE, model__decoder="of-a-program")
    with as_in_a_new_process():
        exec(DECODER.format(name="of-a-program"), {"__name__": "__main__", **names})
        assert used_plugins(recipe, {}) == found
    require_plugins({"__main__": ""}, "a run of an older version")  # what it lacks is named when it is looked up


def test_a_package_has_one_name_however_it_is_imported(write: Write, tmp_path: Path) -> None:
    """And all of its parts, after one of its modules failed and was mended."""
    package = tmp_path / "whole"
    package.mkdir()
    (package / "__init__.py").write_text("from whole import one, other\n")
    (package / "one.py").write_text(DECODER.format(name="of-one"))
    (package / "other.py").write_text("raise OSError('not yet')\n")
    with pytest.raises(PluginError, match="not yet"):
        load_plugin("whole")
    (package / "other.py").write_text("# mended, and longer than before\n" + DECODER.format(name="of-other"))
    load_plugin("whole")
    assert {owner("decoders", name) for name in ("of-one", "of-other")} == {"whole"}
    for module in ("whole", "whole.one", "whole.other"):
        del sys.modules[module]
    with as_in_a_new_process():
        importlib.import_module("whole")
        assert {owner("decoders", name) for name in ("of-one", "of-other")} == {"whole"}
    for module in ("whole", "whole.one", "whole.other"):
        del sys.modules[module]


def test_a_saved_network_and_a_mixture_name_what_they_are_made_of(write: Write, tmp_path: Path) -> None:
    name = write(
        "made_of", DECODER.format(name="saved") + "\nfrom triptych.datasets.rooms import Rooms\n\n"
        "class Own(Rooms):\n    'As rooms.'\n\ntriptych.register('datasets', 'own-rooms', Own)\n"
    )  # fmt: skip
    importlib.import_module(name)
    recipe = change(RECIPE, model__decoder="saved")
    tasks = {"depth": triptych.tasks.depth()}
    Predictor(build_model(recipe, tasks), recipe=recipe).save_pretrained(tmp_path / "saved")
    assert read_recipe(tmp_path / "saved" / "recipe.json").plugins == {name: ""}
    options = {"size": (24, 32), "scenes": 1, "views": 1, "progress": False, "workers": 1}
    mixture = {"dataset": "own-rooms", "root": str(tmp_path), "options": options}
    mixed = spread(Mixed(sources={"a": mixture, "b": mixture}), 1)
    assert used_plugins(Recipe(), {}, mixed.parts()) == {name: ""}


def test_a_plugin_of_no_part_is_recorded_when_it_was_asked_for(write: Write) -> None:
    load_plugin(write("beside", DECODER.format(name="beside")))
    assert used_plugins(Recipe(), {}) == {"beside": ""}


def test_recipes_without_plugins_still_load() -> None:
    fields = json.loads(to_json(Recipe(seed=3)))
    del fields["plugins"]
    assert from_json(json.dumps(fields)) == Recipe(seed=3)


def test_a_part_of_another_kind_is_refused() -> None:
    with as_in_a_new_process():
        with pytest.raises(TypeError, match=r"regularizers takes a subclass of triptych.Regularizer; 'mine' is <class"):
            triptych.register("regularizers", "mine", FCN)
        with pytest.raises(TypeError, match=r"tasks takes a function that makes a triptych.Task; 'heat' is Task"):
            triptych.register("tasks", "heat", regression("heat"))
        with pytest.raises(TypeError, match=r"recipes takes a triptych.Recipe; 'mine' is <class"):
            triptych.register("recipes", "mine", Recipe)
        with pytest.raises(TypeError, match=r"backbones takes a subclass of triptych.Backbone, or a function"):
            triptych.register("backbones", "mine", FCN)
        with pytest.raises(ValueError, match=r"decoders has a 'mtan' already \(triptych.models.mtan\)"):
            triptych.register("decoders", "mtan", type("Mine", (FCN,), {}))
        with pytest.raises(ValueError, match=r"'my part' is no name for decoders"):
            triptych.register("decoders", "my part", type("Mine", (FCN,), {}))
        with pytest.raises(UnknownNameError):
            triptych.register("nothing", "mine", FCN)


def test_a_module_of_the_current_folder_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in_this_folder.py").write_text(DECODER.format(name="local"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    with as_in_a_new_process():
        assert main(["list", "decoders", "--plugin=in_this_folder"]) == 0
    assert "local" in capsys.readouterr().out
    del sys.modules["in_this_folder"]


def test_a_notebook_may_define_a_part_anew() -> None:
    with as_in_a_new_process():
        first, second = (type("Mine", (FCN,), {}) for _ in range(2))
        for each in (first, second):
            triptych.register("decoders", "again", each)
        assert triptych.assemble.DECODERS["again"] is second
        with pytest.raises(ValueError, match=r"has a 'again' already"):
            triptych.register("decoders", "again", type("Other", (FCN,), {}))
        for seed in range(2):
            triptych.register("recipes", "mine", Recipe(seed=seed))
        assert triptych.load_recipe("mine").seed == 1
        elsewhere = {"triptych": triptych, "Recipe": Recipe, "__name__": "another"}
        with pytest.raises(ValueError, match=r"recipes has a 'mine' already"):
            exec("triptych.register('recipes', 'mine', Recipe(seed=2))", elsewhere)
