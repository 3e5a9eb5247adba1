/**
 * The schema of an MPIJob, for which no package has one: the fields of the custom resource `kubeflow.org/v2beta1` of the MPI Operator
 * (its `pkg/apis/kubeflow/v2beta1/types.go`) that every release has. Its pods are those of Kubernetes.
 */

import type { IPodTemplateSpec } from "kubernetes-models/v1";

interface ReplicaSpec {
  replicas?: number;
  restartPolicy?: "Never" | "OnFailure";
  template: IPodTemplateSpec;
}

interface RunPolicy {
  activeDeadlineSeconds?: number;
  backoffLimit?: number;
  cleanPodPolicy?: "All" | "None" | "Running";
  suspend?: boolean;
  ttlSecondsAfterFinished?: number;
}

/** An MPIJob. */
export interface IMPIJob {
  apiVersion: "kubeflow.org/v2beta1";
  kind: "MPIJob";
  metadata: { name: string; namespace?: string };
  spec: {
    mpiImplementation?: "Intel" | "OpenMPI";
    mpiReplicaSpecs: { Launcher: ReplicaSpec; Worker: ReplicaSpec };
    runPolicy?: RunPolicy;
    slotsPerWorker?: number;
    sshAuthMountPath?: string;
  };
}
