"""The figures and tables of the pages that are made from cards: one function each, which says where it comes from."""

from .fooling import active_maps, active_table, longer_maps, longer_table, passive_maps, passive_table, variant_table
from .masking import attack_table, budget_curves, checklist, control_table
from .predictions import (
    direction_table,
    efficacy_curves,
    efficacy_scatter,
    nearness_curves,
    share_table,
    smoothness_table,
)
from .stability import (
    accuracy_table,
    equal_time,
    every_cell,
    explainer_table,
    gap_table,
    price_table,
    side_effects,
    stability_curves,
    stability_table,
    training_minutes,
)
from .tables import CLAIMS, Table, cards_of_claims, cards_of_fooling, cards_of_stability, claim_cells, verdict_table
from .transfer import repair_table, shelter_table, transfer_count, transfer_frames, transfer_maps

__all__ = [
    "CLAIMS",
    "Table",
    "accuracy_table",
    "active_maps",
    "active_table",
    "attack_table",
    "budget_curves",
    "cards_of_claims",
    "cards_of_fooling",
    "cards_of_stability",
    "checklist",
    "claim_cells",
    "control_table",
    "direction_table",
    "efficacy_curves",
    "efficacy_scatter",
    "equal_time",
    "every_cell",
    "explainer_table",
    "gap_table",
    "longer_maps",
    "longer_table",
    "nearness_curves",
    "passive_maps",
    "passive_table",
    "price_table",
    "repair_table",
    "share_table",
    "shelter_table",
    "side_effects",
    "smoothness_table",
    "stability_curves",
    "stability_table",
    "training_minutes",
    "transfer_count",
    "transfer_frames",
    "transfer_maps",
    "variant_table",
    "verdict_table",
]
