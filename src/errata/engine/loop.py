"""The loop. It names no method: everything a method does happens in the seams of its parts."""

from __future__ import annotations

from errata.engine.run import TrainingRun
from errata.engine.step import step_named

__all__ = ["train"]


def train(run: TrainingRun) -> None:
    """Run every stage of the program from where the run stands to its end."""
    for stage in range(run.stage_index, len(run.program)):
        run.enter_stage(stage)
        step = step_named(run.stage.recipe.step)
        for epoch in range(run.first_epoch, run.epochs):
            run.start_epoch(epoch)
            plan = run.everything()
            for part in run.parts:
                plan = part.plan(run, plan)
            run.check(plan)
            for lap_index, lap in enumerate(plan.laps):
                for batch in run.draw(lap, lap_index):
                    seen = step(run, lap, batch)
                    if lap.pool != "train":
                        continue
                    for part in run.parts:
                        part.after_step(run, seen)
                    for observer in run.observers:
                        observer.step(run, seen)
            run.ledger.sync()
            for part in run.parts:
                part.after_epoch(run)
            run.ledger.sync()
            run.finish_epoch()
        run.leave_stage()
