#include "index/faiss_call.h"

#include <cblas.h>
#include <faiss/c_api/error_c.h>

#include <string.h>

/* Of libgomp, which FAISS links. Declared here because clang has no omp.h
 * unless its own OpenMP library is installed. */
void omp_set_num_threads(int count);

sem_status faiss_check(int code, const char *what, sem_error *err)
{
    if (code == 0)
        return SEM_OK;
    const char *message = faiss_get_last_error();
    if (message == NULL)
        message = "no message";
    if (code == STD_EXCEPT && strcmp(message, "std::bad_alloc") == 0)
        return sem_fail_memory(err, what);
    return sem_fail(err, SEM_INTERNAL, "%s: FAISS failed with code %d: %s", what, code, message);
}

void faiss_use_threads(unsigned threads)
{
    enum { THREADS_MAX = 1024 };
    /* Who calls FAISS has divided the work already; threads of OpenBLAS besides would wait for one
     * another in its pool. The encoder sets the same. */
    openblas_set_num_threads(1);
    omp_set_num_threads(threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : (int)threads);
}
