/** The recipes there are. */

import { metricLearning } from "./metric-learning.ts";
import type { Recipe } from "./recipe.ts";

/** All recipes, in the order of the paper. */
export const recipes: readonly Recipe[] = [metricLearning as Recipe];
