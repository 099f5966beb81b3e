"""Who answers which kind of question of a checklist, by the name that the checklists' JSON files use."""

from collections.abc import Callable, Mapping
from typing import Final

from gliolens.report.run import about_cohort, about_model, about_scores
from gliolens.report.run.files import RunFiles

ANSWERERS: Final[Mapping[str, Callable[[RunFiles], str]]] = {
    "answers_a_case": about_model.answers_a_case,
    "cautions": about_scores.cautions,
    "characteristics": about_cohort.characteristics,
    "choice": about_model.choice,
    "code": about_model.code,
    "controls": about_scores.controls,
    "departures": about_model.departures,
    "diagnostic": about_scores.diagnostic,
    "differences": about_cohort.differences,
    "disjoint": about_cohort.disjoint,
    "eligibility": about_cohort.eligibility,
    "errors": about_scores.errors,
    "external": about_scores.external,
    "finished": about_model.finished,
    "flow": about_cohort.flow,
    "internal": about_scores.internal,
    "intervals": about_scores.intervals,
    "metrics": about_scores.metrics,
    "missing_data": about_cohort.missing_data,
    "model": about_model.model,
    "no_person": about_cohort.no_person,
    "no_scanner": about_cohort.no_scanner,
    "not_updated": about_model.not_updated,
    "outcome": about_cohort.outcome,
    "output": about_model.output,
    "partition": about_cohort.partition,
    "performance": about_scores.performance,
    "predicting": about_model.predicting,
    "predictors": about_model.predictors,
    "preparation": about_model.preparation,
    "question": about_model.question,
    "refusals": about_model.refusals,
    "research_only": about_model.research_only,
    "saved_model": about_model.saved_model,
    "settings": about_model.settings,
    "shares": about_cohort.shares,
    "sides": about_cohort.sides,
    "simulated_source": about_cohort.simulated_source,
    "simulated_truth": about_cohort.simulated_truth,
    "sites": about_cohort.sites,
    "sites_left_out": about_cohort.sites_left_out,
    "software": about_model.software,
    "sources": about_cohort.sources,
    "start": about_model.start,
    "technology": about_model.technology,
    "tested": about_cohort.tested,
    "verdict": about_scores.best_control,
}
"""Each tells, or raises NotKnownError."""
