/** The recipes there are. */

import { ablation } from "./ablation.ts";
import { classification } from "./classification.ts";
import { defaults } from "./defaults.ts";
import { domainAdaptation } from "./domain-adaptation.ts";
import { fewShot } from "./few-shot.ts";
import { metricLearning } from "./metric-learning.ts";
import type { CommonSettings, Recipe } from "./recipe.ts";
import { retrieval } from "./retrieval.ts";
import { selfDistillation } from "./self-distillation.ts";
import { stateOfTheArt } from "./state-of-the-art.ts";

/** A recipe among others: its settings are known to itself alone. */
function hidden<Settings extends CommonSettings>(recipe: Recipe<Settings>): Recipe {
  return recipe as unknown as Recipe;
}

/** All recipes, those of the paper in its order. */
export const recipes: readonly Recipe[] = [
  hidden(metricLearning),
  hidden(selfDistillation),
  hidden(stateOfTheArt),
  hidden(classification),
  hidden(fewShot),
  hidden(domainAdaptation),
  hidden(retrieval),
  hidden(ablation),
  hidden(defaults),
];
