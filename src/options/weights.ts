/** Fine-tuning: the weights a network begins with, which of them learn, and how fast. */

/** A file of weights and what it need not have. */
export interface Weights {
  /**
   * A `.safetensors` of rkd, torchvision or timm, a `.pth` of PyTorch (a state dict, or a checkpoint with one), or the
   * folder of a finished run. No code in the file is run.
   */
  readonly file: string;
  /**
   * Which weights of the file: the keys that lead to them in a checkpoint and the beginning of their names, joined by
   * dots: `"ema_state_dict"`, `"state_dict.backbone"`.
   * @default those under a usual name (`state_dict`, `model`, ...), or the only ones; where there are several, an error
   * that names them
   */
  readonly key?: string;
  /**
   * Patterns of names that may be missing, unexpected or of another shape. The head, what stands above the pooled
   * feature, always may. What is not taken is named in a warning. @default []
   */
  readonly except?: readonly string[];
  /**
   * Mean and standard deviation of each channel, by which pixels from 0 to 1 are normalised.
   * torchvision's GoogLeNet wants 0.5 and 0.5 throughout; a teacher's normalisation comes before what is said here.
   * @default what the file says (rkd's own), ImageNet's (other files, three channels), or the training data's (grey)
   */
  readonly normalization?: { readonly mean: readonly number[]; readonly std: readonly number[] };
}

/**
 * Options of a network that does not learn from nothing. A pattern is a name as in torchvision, `layer1.0.conv1.weight`,
 * or a module, `layer1`, which stands for all below it; a star stands for any letters: `layer*.bn1`.
 */
export interface TuningOptions {
  /** Weights to begin with: a file, or a file with what it need not have. @default drawn at random */
  readonly weights?: string | Weights;
  /** Patterns of parameters that stay as they are. Their running statistics follow `batchNorm`. @default [] */
  readonly freeze?: readonly string[];
  /** Factors on the learning rate by pattern, each greater than 0: `{ fc: 10 }`. @default {} */
  readonly learningRates?: Readonly<Record<string, number>>;
  /**
   * What batch norm subtracts and divides by in training: the statistics of the `"batch"`, which the running ones follow,
   * or the `"running"` ones, which then stay as they are. @default "batch"
   */
  readonly batchNorm?: "batch" | "running";
}
