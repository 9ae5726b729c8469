#include "tests/common/testing.h"

#include "index/faiss_call.h"

#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVFFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DIM = 4 };

static const float axes[4 * DIM] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

START_TEST(flat_index_finds_the_nearest_by_inner_product)
{
    FaissIndexFlatIP *flat = NULL;
    ck_assert_int_eq(faiss_IndexFlatIP_new_with(&flat, DIM), OK);
    ck_assert_int_eq(faiss_Index_add(flat, 4, axes), OK);
    const float query[DIM] = {0.1f, 0.2f, 0.9f, 0.3f};
    float scores[2];
    idx_t ids[2];
    ck_assert_int_eq(faiss_Index_search(flat, 1, query, 2, scores, ids), OK);
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], 3);
    ck_assert_float_eq_tol(scores[0], 0.9f, 1e-6f);
    faiss_Index_free(flat);
}
END_TEST

START_TEST(inverted_file_keeps_ids_and_probes_what_it_is_told)
{
    FaissIndexFlatIP *quantizer = NULL;
    FaissIndexIVFFlat *ivf = NULL;
    ck_assert_int_eq(faiss_IndexFlatIP_new_with(&quantizer, DIM), OK);
    ck_assert_int_eq(faiss_Index_add(quantizer, 4, axes), OK);
    ck_assert_int_eq(faiss_IndexIVFFlat_new_with_metric(&ivf, quantizer, DIM, 4, METRIC_INNER_PRODUCT), OK);
    faiss_IndexIVFFlat_set_own_fields(ivf, 1);
    const idx_t given[4] = {70, 71, 72, 73};
    const idx_t cells[4] = {0, 1, 2, 3};
    ck_assert_int_eq(faiss_IndexIVFFlat_add_core(ivf, 4, axes, given, cells), OK);

    float scores[4];
    idx_t ids[4];
    faiss_IndexIVF_set_nprobe(ivf, 1);
    ck_assert_int_eq(faiss_Index_search(ivf, 1, axes, 4, scores, ids), OK);
    ck_assert_int_eq(ids[0], 70);
    ck_assert_int_eq(ids[1], -1);
    faiss_IndexIVF_set_nprobe(ivf, 4);
    ck_assert_int_eq(faiss_Index_search(ivf, 1, axes, 4, scores, ids), OK);
    ck_assert_int_ne(ids[3], -1);
    faiss_Index_free(ivf);
}
END_TEST

START_TEST(clustering_starts_from_as_many_vectors_as_centroids)
{
    FaissClusteringParameters p;
    memset(&p, 0x55, sizeof p);
    faiss_ClusteringParameters_init(&p);
    ck_assert_int_gt(p.niter, 0);
    ck_assert_int_eq(p.spherical, 0);
    p.niter = 1;
    p.spherical = 1;
    p.min_points_per_centroid = 1;
    FaissClustering *clustering = NULL;
    FaissIndexFlatIP *flat = NULL;
    ck_assert_int_eq(faiss_Clustering_new_with_params(&clustering, DIM, 2, &p), OK);
    ck_assert_int_eq(faiss_IndexFlatIP_new_with(&flat, DIM), OK);
    ck_assert_int_eq(faiss_Clustering_train(clustering, 2, axes, flat), OK);
    const float sample[3 * DIM] = {3, 0, 0, 4, 0, 1, 0, 0, 0, 1, 0, 0};
    ck_assert_int_eq(faiss_Clustering_train(clustering, 3, sample, flat), OK);

    float *centroids = NULL;
    size_t size = 0;
    faiss_Clustering_centroids(clustering, &centroids, &size);
    ck_assert_uint_eq(size, 2 * DIM);
    ck_assert_float_eq_tol(centroids[0], 0.6f, 1e-6f);
    ck_assert_float_eq_tol(centroids[3], 0.8f, 1e-6f);
    ck_assert_float_eq_tol(centroids[DIM + 1], 1.0f, 1e-6f);
    faiss_Clustering_free(clustering);
    faiss_Index_free(flat);
}
END_TEST

/* Fewer points than centroids is what FAISS itself refuses. */
static int train_too_few(void)
{
    FaissClusteringParameters p;
    faiss_ClusteringParameters_init(&p);
    FaissClustering *clustering = NULL;
    FaissIndexFlatIP *flat = NULL;
    ck_assert_int_eq(faiss_Clustering_new_with_params(&clustering, DIM, 5, &p), OK);
    ck_assert_int_eq(faiss_IndexFlatIP_new_with(&flat, DIM), OK);
    int code = faiss_Clustering_train(clustering, 4, axes, flat);
    faiss_Clustering_free(clustering);
    faiss_Index_free(flat);
    return code;
}

START_TEST(a_refusal_of_faiss_comes_as_code_and_message)
{
    ck_assert_int_eq(train_too_few(), FAISS_EXCEPT);
    ck_assert_ptr_nonnull(strstr(faiss_get_last_error(), "Number of training points (4)"));
    sem_error error;
    ck_fails(faiss_check(FAISS_EXCEPT, "training k-means", &error), SEM_INTERNAL);
    ck_assert_ptr_nonnull(strstr(error.message, "training k-means"));
    ck_assert_ptr_nonnull(strstr(error.message, "Number of training points (4)"));
}
END_TEST

START_TEST(an_exception_of_the_standard_library_has_its_own_code)
{
    FaissIndexFlatIP *flat = NULL;
    ck_assert_int_eq(faiss_IndexFlatIP_new_with(&flat, 1), OK);
    int code = faiss_Index_add(flat, (idx_t)1 << 61, axes); /* refused before a byte is read */
    ck_assert_int_eq(code, STD_EXCEPT);
    ck_assert_ptr_nonnull(faiss_get_last_error());
    sem_error error;
    ck_fails(faiss_check(code, "adding", &error), SEM_INTERNAL);
    faiss_Index_free(flat);
}
END_TEST

static void *last_error_here(void *unused)
{
    (void)unused;
    return (void *)faiss_get_last_error();
}

START_TEST(the_last_error_belongs_to_its_thread)
{
    ck_assert_int_eq(train_too_few(), FAISS_EXCEPT);
    pthread_t other;
    void *found = &other;
    ck_assert_int_eq(pthread_create(&other, NULL, last_error_here, NULL), 0);
    ck_assert_int_eq(pthread_join(other, &found), 0);
    ck_assert_ptr_null(found);
    ck_assert_ptr_nonnull(faiss_get_last_error());
}
END_TEST

/* Reads the lines of a command into names, sorted by the command. */
static size_t lines_of(const char *command, char names[][96], size_t max)
{
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t count = 0;
    while (count < max && fgets(names[count], 96, pipe) != NULL) {
        names[count][strcspn(names[count], "\n")] = '\0';
        count++;
    }
    ck_assert_int_eq(pclose(pipe), 0);
    return count;
}

/* What begins like FAISS's names but is ours. */
#define OURS "grep -vE '^faiss_(check|use_threads|measure|search|(ivf|cells|found|file)_[a-z_]+)$'"

/* The shim is one object, so this program holds all that it defines. */
START_TEST(the_shim_defines_what_is_called_and_nothing_else)
{
    enum { MAX = 64 };
    static char defined[MAX][96], called[MAX][96];
    char program[512] = {0}, command[768];
    ck_assert_int_gt(readlink("/proc/self/exe", program, sizeof program - 1), 0);
    snprintf(command, sizeof command,
             "nm --defined-only '%s' | sed -n 's/^.* T \\(faiss_.*\\)/\\1/p' | " OURS " | LC_ALL=C sort", program);
    size_t definitions = lines_of(command, defined, MAX);
    size_t calls = lines_of(
        "cat index/*.c | grep -oE '\\bfaiss_[A-Za-z_]+\\(' | tr -d '(' | " OURS " | LC_ALL=C sort -u", called, MAX);
    ck_assert_uint_gt(calls, 0);
    for (size_t i = 0; i < definitions && i < calls; i++)
        ck_assert_str_eq(defined[i], called[i]);
    ck_assert_uint_eq(definitions, calls);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faiss_shim");
    TCase *tc = tcase_create("faiss_shim");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, flat_index_finds_the_nearest_by_inner_product);
    tcase_add_test(tc, inverted_file_keeps_ids_and_probes_what_it_is_told);
    tcase_add_test(tc, clustering_starts_from_as_many_vectors_as_centroids);
    tcase_add_test(tc, a_refusal_of_faiss_comes_as_code_and_message);
    tcase_add_test(tc, an_exception_of_the_standard_library_has_its_own_code);
    tcase_add_test(tc, the_last_error_belongs_to_its_thread);
    tcase_add_test(tc, the_shim_defines_what_is_called_and_nothing_else);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
