"""The page: the report's, whose examples arrive while it is open."""

from importlib import resources

from triptych.app.pictures import Limits
from triptych.prediction.image_files import depth_task
from triptych.prediction.predictor import Predictor
from triptych.report.engine import Markup, element, join, render_page
from triptych.report.examples import STAGE, show_strip

_ASK = Markup("""<form class="ask card" novalidate>
<label class="drop"><input type="file" name="pictures" accept="image/*" multiple>
<strong>Choose pictures</strong> <span>or drop them here</span></label>
<div class="camera"><button type="button" name="camera">Use the camera</button>
<span hidden><button type="button" name="shoot">Take a picture</button>
<label class="check"><input type="checkbox" name="live"> Live</label></span></div>
<video muted playsinline hidden></video>
<p role="status" aria-live="polite"></p>
<noscript><p>This page needs JavaScript to send pictures.</p></noscript></form>""")

_OVERLAY = Markup("""<div class="overlay stage card" hidden><div class="layers"><img alt="The picture">
<img alt="The map over it"></div>
<div class="controls"><h3>Over the picture</h3>
<label>Map <select name="layer"></select></label>
<label>Opacity <input type="range" name="opacity" min="0" max="1" step="0.01" value="0.6"></label>
<div class="buttons"><button type="button" name="files">Download all (.zip)</button></div>
<p>Arrays, colors, a panel and, where there is depth, points in space.</p></div></div>""")


def make_page(predictor: Predictor, *, title: str, limits: Limits) -> str:
    """The page of a network; it asks its own server alone."""
    tasks = predictor.tasks
    model = predictor.recipe.model
    size = predictor.fixed_size
    facts = {
        "Network": f"{model.backbone} + {model.decoder}",
        "Predicts": ", ".join(tasks),
        "Sees": f"pictures resized to {size[1]} x {size[0]}" if size else f"at most {limits.side} pixels a side",
        "Takes": f"files up to {limits.bytes / 1e6:g} MB",
    }
    stage = STAGE if depth_task(tasks) is not None else Markup()
    results = element("div", show_strip([]), _OVERLAY, stage, class_="arriving", hidden=True)
    return render_page(
        title,
        {"ask": ("Pictures", _ASK), "results": ("Predictions", join([results]))},
        lead="Pictures go to the computer that runs this app, are predicted there, and are not kept.",
        facts=facts,
        data={"limit": limits.bytes},
        script=_asset("app.js"),
        style=_asset("app.css"),
        allowed="; connect-src 'self'",
        closing="It talks to its own server alone.",
    )


def _asset(name: str) -> str:
    return (resources.files("triptych.app") / "assets" / name).read_text(encoding="utf-8")
