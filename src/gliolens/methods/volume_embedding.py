"""Volume embeddings: a frozen encoder turns slices into vectors, pooling makes a volume of them, a small net decides.

Li and McMillan (Leveraging Volume Embeddings for Glioma Classification). For each series m of a patient

    h_ms = E(x_ms) in R^d,   v_m = pool_s h_ms,   v = [v_1 ; v_2 ; ...],   q = softmax( MLP(v) )

with pool the mean, the maximum or the median of each number over the slices s; or, learnt, sum_s a_s h_s (`attention`).

`paper`  MedImageInsight, T1 with contrast and FLAIR, maximum, MLP of one hidden layer of 200: the best of the 45
         configurations the paper scored on its test set.
`sound`  pooling and series are chosen on inner folds of the training patients, attention where it is clearly better;
         vectors are standardised, classes weigh the same and their shares are put back; logistic regression; the
         encoder that lies in the package.
Every difference and guess is listed in docs/methods/volume-embedding.md.

    gliolens train volume-embedding cohort.csv --target grade --preset sound -o RUN

Needs no tumour mask (the controls beside it do). See docs/results.md for time and scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch

from gliolens.case import Case, CaseRow, Prediction, Volume
from gliolens.cohorts.splits import kfold
from gliolens.embedding import FRAME_MM, embed, harmonised, harmony_of, pools_of, vectors_of
from gliolens.embedding import VERSION as CUT
from gliolens.encoders.catalogue import find_encoder
from gliolens.encoders.encoder import Encoder
from gliolens.errors import CohortError, ConfigError, ModelError
from gliolens.explain import stacked
from gliolens.labels import SERIES, SERIES_TITLES
from gliolens.loader import Arrays, Cases
from gliolens.method import Run, changed
from gliolens.progress import Counter, Tick, say
from gliolens.readers import (
    AttentionReader,
    Choice,
    PooledReader,
    choices,
    preferred,
    series_influence,
    slice_influence,
    vectors_for,
)
from gliolens.saved import read_model, write_model
from gliolens.stats.combat import Combat
from gliolens.stats.priors import with_prior

VERSION = 2
"""Raised whenever the same weights would answer otherwise."""


@dataclass(frozen=True)
class Config:
    """Settings.

    Attributes:
        series: series that are encoded; with the pooling `chosen`, those to choose from.
        encoder: name from `encoders.catalogue`, such as built-in, medimageinsight or timm:resnet50.a1_in1k.
        weights: file or folder of the encoder's weights, where it needs one.
        offline: never open a connection to fetch weights.
        pooling: how slices become a volume; `chosen`, and the series with it, on inner folds of the training patients.
        folds: how many inner folds, at most: no more than the rarest class has patients.
        hidden: width of the hidden layer; 0 is logistic regression.
        standardise: give every number of a vector mean 0 and standard deviation 1 among training patients.
        balanced: let every class weigh the same, and put the class shares back into the answer.
        harmonise: take out what a site adds to the vectors (`stats.combat`), learnt from the training patients; a case
            of another site is read as it is.
    """

    series: tuple[str, ...] = SERIES
    encoder: str = "built-in"
    weights: str | None = None
    offline: bool = False
    pooling: Literal["mean", "max", "median", "attention", "chosen"] = "chosen"
    folds: int = 4
    hidden: int = 0
    standardise: bool = True
    balanced: bool = True
    harmonise: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2 or self.hidden < 0:
            raise ConfigError(
                f"folds is {self.folds} and hidden is {self.hidden}; expected folds from 2, hidden from 0"
            )
        if self.weights is not None:  # a model is used from other folders than the one it was trained in
            object.__setattr__(self, "weights", str(Path(self.weights).resolve()))

    @classmethod
    def preset(cls, name: str) -> Self:
        """`paper`: as published. `sound`: its quirks mended.

        Raises:
            ConfigError: another name.
        """
        if name == "sound":
            return cls()
        if name == "paper":
            return cls(
                series=("t1ce", "flair"), encoder="medimageinsight", pooling="max", hidden=200, standardise=False,
                balanced=False,
            )  # fmt: skip
        raise ConfigError(f"no preset is called {name!r}; there are paper and sound")

    def scaled(self, scale: str) -> Self:
        """At `demo` scale the built-in encoder, which takes seconds a case."""
        return replace(self, encoder="built-in", weights=None) if scale == "demo" else self


# --- from a case to vectors ------------------------------------------------------------------------------------


def ready(cases: Cases, config: Config, cache: Path, tick: Tick | None = None) -> Sequence[Arrays]:
    """Vectors (S, dim) of each series of each case; see `embedding.embed`."""
    cases = replace(cases, series=config.series, need_mask=False)
    return embed(cases, _encoder(config.encoder, config.weights, config.offline), cache, tick)


def identity(config: Config) -> str:
    """What decides an answer beside cases and settings: this version, how slices are cut, and the encoder's weights."""
    return f"{VERSION} {CUT} {_encoder(config.encoder, config.weights, config.offline).identity}"


@lru_cache(maxsize=1)  # one at a time is enough, and they are large
def _encoder(name: str, weights: str | None, offline: bool) -> Encoder:
    """The encoder, made once a process: the largest takes seconds to read."""
    return find_encoder(name, None if weights is None else Path(weights), offline=offline)


# --- learning --------------------------------------------------------------------------------------------------


def pooled_reader(
    x: np.ndarray, truth: np.ndarray, choice: Choice, config: Config, seed: int
) -> PooledReader:
    """Fit one configuration to vectors (n, dim x series) of patients whose classes (n,) are 0 to k - 1."""
    if choice.pooling == "attention":
        raise ValueError("attention reads slices, not vectors of patients")
    return PooledReader.learn(
        x, truth, choice.pooling, choice.series, hidden=config.hidden, standardise=config.standardise,
        balanced=config.balanced, seed=seed,
    )  # fmt: skip


def learn(
    embedded: Sequence[Arrays], truth: np.ndarray, choice: Choice, config: Config, seed: int, folder: Path
) -> PooledReader | AttentionReader:
    """Fit one configuration to slices of patients; a stopped fit of the attention goes on from `folder`."""
    if choice.pooling == "attention":
        return AttentionReader.learn(
            embedded, truth, choice.series, hidden=config.hidden, balanced=config.balanced, seed=seed, folder=folder,
        )  # fmt: skip
    return pooled_reader(vectors_for(choice, pools_of(embedded, choice.series)), truth, choice, config, seed)


def choose(
    cases: Cases, embedded: Sequence[Arrays], config: Config, run: Run, folds: int
) -> dict[Choice, np.ndarray]:
    """Log loss of each patient (n,) under each configuration on inner folds; in a mean every class weighs the same.

    Attention, which takes a hundred times as long to learn, is tried with the series that served the others best.

    Raises:
        CohortError: a class has fewer patients than there are folds.
    """
    truth = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    place = {row.case: i for i, row in enumerate(cases.rows)}
    split = kfold(cases.rows, run.target, folds=folds, seed=run.seed)
    sides = [[[place[c] for c in ids] for ids in (fold.train, fold.test)] for fold in split.folds]
    pools = pools_of(embedded, config.series)

    def loss(answer: Callable[[int, list[int], list[int]], np.ndarray]) -> np.ndarray:
        q = np.zeros((len(truth), len(run.classes)))
        for k, (train, test) in enumerate(sides):
            q[test] = answer(k, train, test)
        right = np.log(np.clip(q[np.arange(len(q)), truth], 1e-6, 1.0))
        counts = np.bincount(truth)
        weights = len(truth) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.asarray(-right * weights[truth])

    def by_pools(choice: Choice, x: np.ndarray) -> np.ndarray:
        return loss(
            lambda _, train, test: pooled_reader(x[train], truth[train], choice, config, run.seed).of_vectors(
                x[test]
            )
        )

    def by_attention(choice: Choice) -> np.ndarray:
        def answer(k: int, train: list[int], test: list[int]) -> np.ndarray:
            folder = run.folder / f"inner-{k}"
            reader = learn([embedded[i] for i in train], truth[train], choice, config, run.seed, folder)
            return reader([embedded[i] for i in test])

        return loss(answer)

    losses = {c: by_pools(c, vectors_for(c, pools)) for c in choices(config.series)}
    attentive = Choice("attention", min(losses, key=lambda c: losses[c].mean()).series)
    return losses | {attentive: by_attention(attentive)}


def _inner_folds(cases: Cases, config: Config, target: str) -> int:
    """As many as asked for, but no more than the rarest class has patients.

    Raises:
        CohortError: a class has a single patient.
    """
    classes = cases.classes(target)
    patients = {
        c: {row.patient for row, k in zip(cases.rows, classes, strict=True) if k == c} for c in classes
    }
    rarest = min(patients, key=lambda c: len(patients[c]))
    least = len(patients[rarest])
    if least < 2:
        raise CohortError(
            f"{target}: a single training patient is {rarest}; choosing pooling and series needs two. "
            "Add patients, use fewer folds, or name a pooling"
        )
    if least < config.folds:
        say(f"{least} inner folds instead of {config.folds}: no more training patients are {rarest}")
    return min(least, config.folds)


def fit(cases: Cases, config: Config, run: Run) -> "Model":
    """Train on cases whose target is known and which have the series.

    Raises:
        CaseError: a case cannot be read.
        CohortError: the pooling is to be chosen, and a class has a single training patient; to harmonise, and the site
            of a case is not known.
        ConfigError: to harmonise, and there are fewer than two sites of `stats.combat.LEAST` cases.
    """
    folds = _inner_folds(cases, config, run.target) if config.pooling == "chosen" else 0
    embedded = ready(cases, config, run.cache, Counter("encoding cases"))
    harmony = harmony_of(cases, embedded, config.series) if config.harmonise else {}
    embedded = [harmonised(e, row.site, harmony) for e, row in zip(embedded, cases.rows, strict=True)]
    if config.pooling == "chosen":
        losses = choose(cases, embedded, config, run, folds)
        choice = preferred(losses)
    else:
        losses, choice = {}, Choice(config.pooling, config.series)
    truth = np.array([run.classes.index(c) for c in cases.classes(run.target)])
    reader = learn(embedded, truth, choice, config, run.seed, run.folder / "final")
    counts = np.bincount(truth, minlength=len(run.classes))
    shares = counts / counts.sum() if config.balanced else np.full(len(counts), 1 / len(counts))
    how = "mean" if choice.pooling == "attention" else choice.pooling
    usual = {s: v.mean(axis=0) for (s, _), v in pools_of(embedded, choice.series, (how,)).items()}
    encoder = _encoder(config.encoder, config.weights, config.offline).identity
    told = tuple((c.pooling, c.series, float(loss.mean())) for c, loss in losses.items())
    return Model(
        run.target, run.classes, config, reader, tuple(shares.tolist()), usual, encoder, told, harmony
    )


# --- the fitted model ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A reader of vectors with what it needs to make them.

    Attributes:
        usual: pooled vector (dim,) of each series, mean of the training patients.
        encoder: identity of the encoder it was trained with.
        tried: pooling, series and inner log loss of every configuration, where one was chosen.
        harmony: what each site adds to the vectors of each series; empty where that is left in.
    """

    target: str
    classes: tuple[str, ...]
    config: Config
    reader: PooledReader | AttentionReader
    prior: tuple[float, ...]
    usual: Mapping[str, np.ndarray]
    encoder: str
    tried: tuple[tuple[str, tuple[str, ...], float], ...] = ()
    harmony: Mapping[str, Combat] = field(default_factory=dict)

    def answer(self, row: CaseRow, ready: Arrays) -> Prediction:
        """Answer one case: the training's class shares put back, decision by the balanced posterior.

        Raises:
            ModelError: the encoder at hand, which `ready` was made with, is not that of the training.
        """
        self._find_encoder()
        q = self.reader([self._mended(row.case, row.site, ready)])
        p = with_prior(q, np.array(self.prior))[0]
        return Prediction(
            case=row.case,
            method="volume-embedding",
            probabilities={self.target: dict(zip(self.classes, p.tolist(), strict=True))},
            decisions={self.target: self.classes[int(q[0].argmax())]},
        )

    def predict(self, case: Case) -> Prediction:
        """Answer one case, and say what each series adds to the log odds of the decision."""
        seen = self._seen(case)
        answer = self.answer(CaseRow(case.id, case.patient, site=case.site), seen)
        embedded = self._mended(case.id, case.site, seen)
        decided = self.classes.index(answer.decisions[self.target])
        added = series_influence(self.reader, embedded, self.usual, decided)
        named = {f"{SERIES_TITLES[s]} (log odds)": value for s, value in added.items()}
        return replace(answer, evidence=dict(sorted(named.items(), key=lambda item: -abs(item[1]))))

    def explain(self, case: Case) -> Mapping[str, Volume]:
        """How much the log odds of the decision fall without each slice, as a share of the most, over the frame.

        With attention there is a second map: how much each slice counts.
        """
        embedded = self._mended(case.id, case.site, self._seen(case))
        if len(embedded["affines"]) < 2:
            return {}  # a volume's one vector, or a single slice: none can be left out
        decided = int(self.reader([embedded])[0].argmax())
        maps = {self.target: slice_influence(self.reader, embedded, decided)}
        if isinstance(self.reader, AttentionReader):
            maps[f"{self.target}_attention"] = self.reader.attention(embedded)
        return {name: _as_volume(values, embedded["affines"]) for name, values in maps.items()}

    def _mended(self, case: str, site: str | None, embedded: Arrays) -> Arrays:
        known = next(iter(self.harmony.values())).sites if self.harmony else ()
        if known and site not in known:
            say(f"{case}: of no site that was learnt ({', '.join(known)}): read without harmonising")
        return harmonised(embedded, site, self.harmony)

    def _seen(self, case: Case) -> Arrays:
        return _vectors(case, self.config.series, self.reader.series, self._find_encoder())

    def _find_encoder(self) -> Encoder:
        encoder = _encoder(self.config.encoder, self.config.weights, self.config.offline)
        if encoder.identity != self.encoder:
            raise ModelError(
                f"the encoder {self.config.encoder} at hand is not the one this model was trained with; name the same "
                "weights, or train again"
            )
        return encoder

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `card.json`; the encoder is named, not copied."""
        tensors, about = self.reader.arrays()
        tensors |= {f"usual_{s}": torch.from_numpy(np.ascontiguousarray(v)) for s, v in self.usual.items()}
        about = {
            "target": self.target, "classes": self.classes, "config": asdict(self.config), "reader": about,
            "prior": self.prior, "encoder": self.encoder, "tried": self.tried,
            "harmony": {s: asdict(learnt) for s, learnt in self.harmony.items()},
        }  # fmt: skip
        write_model(folder, "volume-embedding", VERSION, tensors, about)


@lru_cache(maxsize=1)  # what `predict` encoded, `explain` need not
def _vectors(case: Case, seen: tuple[str, ...], series: tuple[str, ...], encoder: Encoder) -> Arrays:
    """Vectors of a case, of which no other series are seen than in training: they decide where the brain is."""
    same = replace(case, series={s: case.series[s] for s in seen if s in case.series})
    return vectors_of(same, series, encoder)


def _as_volume(values: np.ndarray, affines: np.ndarray) -> Volume:
    """A number a slice as a map, constant over each frame: as a share of the largest, for or against."""
    most = np.abs(values).max()
    shares = values / most if most > 0 else values
    return stacked(np.broadcast_to(shares[:, None, None], (len(values), FRAME_MM, FRAME_MM)), affines)


def load(folder: Path) -> Model:
    """Bring a saved model back.

    Raises:
        ModelError: the folder does not hold one, or its weights are not those of its card.
    """
    card, state = read_model(folder, "volume-embedding", VERSION)
    usual = {k.removeprefix("usual_"): v.numpy() for k, v in state.items() if k.startswith("usual_")}
    learnt = {k: v for k, v in state.items() if not k.startswith("usual_")}
    kind = AttentionReader if card["reader"]["pooling"] == "attention" else PooledReader
    config = changed(Config(), card["config"])
    tried = tuple((pooling, tuple(series), loss) for pooling, series, loss in card["tried"])
    harmony = {s: Combat.made(about) for s, about in card.get("harmony", {}).items()}
    return Model(
        card["target"], tuple(card["classes"]), config, kind.made(learnt, card["reader"]), tuple(card["prior"]),
        usual, card["encoder"], tried, harmony,
    )  # fmt: skip
