/* OpenBLAS behind the gemm interface; for gemm_choose and its tests. */
#ifndef SEM_MODEL_GEMM_OPENBLAS_H
#define SEM_MODEL_GEMM_OPENBLAS_H

#include "model/gemm.h"

/* Sizes must fit in an int. */
extern const gemm gemm_openblas;

/* One thread a call, for the whole process: parallelism is over workers. */
void gemm_openblas_single_thread(void);

/* The name of the kernels that OpenBLAS chose; static string. */
const char *gemm_openblas_kernel(void);

#endif
