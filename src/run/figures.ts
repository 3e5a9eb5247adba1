/** Figures in words. */

/** Whether a metric is a correlation and no share. */
export function isCorrelation(name: string): boolean {
  return name.endsWith("RankCorrelation");
}

/** A share in percent, a correlation as it is. */
export function score(name: string, value: number | undefined): string {
  return isCorrelation(name) && value !== undefined ? value.toFixed(3) : percent(value);
}

/** A share in percent, with so many digits behind the point. */
export function percent(value: number | null | undefined, digits = 2): string {
  return value === null || value === undefined ? "-" : `${(100 * value).toFixed(digits)} %`;
}
