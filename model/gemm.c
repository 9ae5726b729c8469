#include "model/gemm.h"

#include "base/checked.h"
#include "base/random.h"
#include "model/gemm_openblas.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

/* Behind each row of C stand this many values that a product must not touch. */
enum { GUARD = 3 };
static const float UNTOUCHED = 1234.5f;

/* Three texts' worth of tokens: no multiple of any kernel's tile. */
enum { MANY_TOKENS = 261 };

typedef struct sample {
    float *a, *b, *c, *expected;
} sample;

static void fill_random(float *x, size_t n, uint64_t seed)
{
    random_state r;
    random_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * random_unit(&r) - 1);
}

/* C before the product: what beta keeps, or what must not be read. */
static void fill_result(float *c, size_t m, size_t n, float beta)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++)
            c[i * (n + GUARD) + j] = beta == 0 ? NAN : (float)(i % 5) - 0.25f * (float)(j % 7);
        for (size_t j = n; j < n + GUARD; j++)
            c[i * (n + GUARD) + j] = UNTOUCHED;
    }
}

/* Two sums of k products of numbers up to 1, rounded in different orders,
 * differ by far less than k roundings of a number of size sqrt(k). */
static bool agrees(const sample *s, size_t m, size_t n, size_t k)
{
    float tolerance = 4 * FLT_EPSILON * (float)(k + 16);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n + GUARD; j++) {
            size_t at = i * (n + GUARD) + j;
            float difference = fabsf(s->c[at] - s->expected[at]);
            if (!(difference <= (j < n ? tolerance : 0)))
                return false;
        }
    return true;
}

static bool same_product(const gemm *candidate, const sample *s, bool ta, bool tb, size_t m, size_t n, size_t k)
{
    static const float factors[][2] = {{1, 0}, {1, 1}, {0.5f, -1}};
    size_t lda = ta ? m : k, ldb = tb ? k : n, ldc = n + GUARD;
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
        float alpha = factors[f][0], beta = factors[f][1];
        if (f > 0 && m > 16)
            break; /* how C enters does not depend on the rows: large shapes once */
        fill_result(s->c, m, n, beta);
        fill_result(s->expected, m, n, beta);
        candidate->multiply(ta, tb, m, n, k, alpha, s->a, lda, s->b, ldb, beta, s->c, ldc);
        gemm_portable.multiply(ta, tb, m, n, k, alpha, s->a, lda, s->b, ldb, beta, s->expected, ldc);
        if (!agrees(s, m, n, k))
            return false;
    }
    return true;
}

static bool all_forms(const gemm *candidate, size_t m, size_t n, size_t k)
{
    sample s = {
        .a = checked_alloc_aligned(m * k, sizeof(float)),
        .b = checked_alloc_aligned(k * n, sizeof(float)),
        .c = checked_alloc_aligned(m * (n + GUARD), sizeof(float)),
        .expected = checked_alloc_aligned(m * (n + GUARD), sizeof(float)),
    };
    bool right = s.a != NULL && s.b != NULL && s.c != NULL && s.expected != NULL;
    if (right) {
        fill_random(s.a, m * k, 1);
        fill_random(s.b, k * n, 2);
    }
    for (int form = 0; form < 4 && right; form++)
        right = same_product(candidate, &s, form & 1, form & 2, m, n, k);
    free(s.a);
    free(s.b);
    free(s.c);
    free(s.expected);
    return right;
}

bool gemm_self_test(const gemm *candidate, size_t hidden, size_t intermediate, size_t head)
{
    const size_t tokens[] = {1, 2, 15, MANY_TOKENS};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        size_t t = tokens[i];
        /* Forward and both gradients of the layers: tokens, inputs and outputs
         * each take every place. */
        if (!all_forms(candidate, t, 3 * hidden, hidden) || !all_forms(candidate, t, hidden, intermediate) ||
            !all_forms(candidate, t, intermediate, hidden) || !all_forms(candidate, hidden, intermediate, t) ||
            !all_forms(candidate, t, t, head) || !all_forms(candidate, t, head, t))
            return false;
    }
    return all_forms(candidate, 17, 33, 65) && all_forms(candidate, 5, 1, 7);
}

enum { CHOICES_MAX = 8 /* shapes that are remembered */ };

/* Kernels of OpenBLAS that know no AVX. An older library takes one of them on a processor
 * that it does not know yet, and is then several times slower than our own. */
static bool is_without_avx(const char *kernel)
{
    static const char *const names[] = {"Prescott", "Core2",   "Penryn",       "Dunnington", "Nehalem", "Atom",
                                        "Athlon",   "Opteron", "Opteron_SSE3", "Barcelona",  "Bobcat",  "Nano"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(kernel, names[i]) == 0)
            return true;
    return false;
}

const gemm *gemm_choose_checked(const gemm *candidate, const char *kernel, size_t hidden, size_t intermediate,
                                size_t head, sem_log *log)
{
    const kernels *level;
    const gemm *own = kernels_choose(&level, NULL) == SEM_OK ? gemm_own(level) : &gemm_portable;
    const bool right = gemm_self_test(candidate, hidden, intermediate, head);
    if (right && (own == &gemm_portable || !is_without_avx(kernel))) {
        log_event(log, LOG_LEVEL_INFO, "gemm", "library=%s kernel=%s", candidate->name, kernel);
        return candidate;
    }
    if (own != &gemm_portable && !gemm_self_test(own, hidden, intermediate, head))
        own = right ? candidate : &gemm_portable;
    log_event(log, LOG_LEVEL_WARNING, right ? "gemm_kernel_too_old" : "gemm_self_test_failed",
              "library=%s kernel=%s using=\"%s\" effect=\"slower encoding and training\" "
              "remedy=\"set OPENBLAS_CORETYPE to another kernel, e.g. Haswell or SkylakeX, or upgrade the library\"",
              candidate->name, kernel, own->name);
    return own;
}

/* The library and the processor stay what they are while the process runs, so
 * what was found out for these shapes holds: a test takes a third of a second,
 * and a start, a job and a rollback each open models of the same shapes. */
static struct {
    pthread_mutex_t lock; /* guards the rest; held during a test; a leaf */
    struct {
        size_t hidden, intermediate, head;
        const gemm *found;
    } rows[CHOICES_MAX];
    size_t next;
} choices = {.lock = PTHREAD_MUTEX_INITIALIZER};

const gemm *gemm_choose(size_t hidden, size_t intermediate, size_t head, sem_log *log)
{
    const gemm *found = NULL;
    pthread_mutex_lock(&choices.lock);
    for (size_t i = 0; i < CHOICES_MAX && found == NULL; i++)
        if (choices.rows[i].found != NULL && choices.rows[i].hidden == hidden &&
            choices.rows[i].intermediate == intermediate && choices.rows[i].head == head)
            found = choices.rows[i].found;
    if (found == NULL) {
        gemm_openblas_single_thread();
        found = gemm_choose_checked(&gemm_openblas, gemm_openblas_kernel(), hidden, intermediate, head, log);
        size_t at = choices.next++ % CHOICES_MAX;
        choices.rows[at].hidden = hidden;
        choices.rows[at].intermediate = intermediate;
        choices.rows[at].head = head;
        choices.rows[at].found = found;
    }
    pthread_mutex_unlock(&choices.lock);
    return found;
}
