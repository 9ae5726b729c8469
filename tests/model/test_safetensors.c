#include "tests/common/testing.h"

#include "base/files.h"
#include "model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_error error;

static const char *file_path(void)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/x.safetensors", testing_folder());
    return path;
}

/* A file whose prefix claims `claimed` bytes, with this header and data (NULL: zeros). */
static void write_bytes(uint64_t claimed, const char *header, size_t header_size, const void *data, size_t data_size)
{
    char *bytes = calloc(1, 8 + header_size + data_size + 1);
    ck_assert_ptr_nonnull(bytes);
    memcpy(bytes, &claimed, 8);
    memcpy(bytes + 8, header, header_size);
    if (data != NULL)
        memcpy(bytes + 8 + header_size, data, data_size);
    ck_ok(files_write(file_path(), bytes, 8 + header_size + data_size, &error));
    free(bytes);
}

static void write_claim(uint64_t claimed, const char *header, size_t header_size, size_t data_size)
{
    write_bytes(claimed, header, header_size, NULL, data_size);
}

static void write_file(const char *header, size_t data_size)
{
    write_claim(strlen(header), header, strlen(header), data_size);
}

/* Every element of one tensor of the file. */
static sem_status read_all(const safetensors *f, const char *name, float *out)
{
    const tensor_view *view = safetensors_find(f, name);
    ck_assert_ptr_nonnull(view);
    return tensor_read(view, 0, view->elements, out, &error);
}

/* Opening fails and the message names the file and holds each of the words. */
static void expect_refused(const char *first, const char *second)
{
    safetensors *f = NULL;
    ck_fails(safetensors_open(&f, file_path(), &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(f);
    ck_assert_msg(strstr(error.message, file_path()) != NULL, "no file name: %s", error.message);
    ck_assert_msg(strstr(error.message, first) != NULL, "no \"%s\": %s", first, error.message);
    ck_assert_msg(strstr(error.message, second) != NULL, "no \"%s\": %s", second, error.message);
}

#define T(name, dtype, shape, begin, end)                                                                              \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

START_TEST(what_is_written_is_read_back)
{
    static const float a[6] = {1, -2, 3.5f, 0, 1e-30f, -1e30f}, b[3] = {7, 8, 9}, c[1] = {42};
    const tensor_source tensors[] = {
        {"z.weight", 2, {2, 3}, a}, {"a \"quoted\".bias", 1, {3}, b}, {"scalar", 0, {0}, c}, {"none", 2, {0, 5}, a}};
    safetensors *f;
    ck_ok(safetensors_write(file_path(), tensors, 4, &error));
    ck_ok(safetensors_open(&f, file_path(), &error));
    ck_assert_uint_eq(safetensors_count(f), 4);
    const tensor_view *v = safetensors_find(f, "z.weight");
    ck_assert_ptr_nonnull(v);
    ck_assert_uint_eq(v->dims, 2);
    ck_assert_uint_eq(v->shape[1], 3);
    ck_assert_uint_eq((uintptr_t)v->data % 8, 0);
    float out[6];
    ck_ok(read_all(f, "z.weight", out));
    ck_assert_mem_eq(out, a, sizeof a);
    ck_assert_ptr_eq(v, safetensors_at(f, 0));
    ck_assert_uint_eq(safetensors_find(f, "a \"quoted\".bias")->elements, 3);
    ck_assert_uint_eq(safetensors_find(f, "scalar")->elements, 1);
    ck_assert_uint_eq(safetensors_find(f, "none")->elements, 0);
    ck_assert_ptr_null(safetensors_find(f, "other"));
    ck_assert_ptr_null(safetensors_at(f, 4));
    safetensors_close(f);
    safetensors_close(NULL);
}
END_TEST

START_TEST(writing_refuses_a_name_given_twice)
{
    static const float a[1] = {1};
    const tensor_source tensors[] = {{"x", 1, {1}, a}, {"x", 1, {1}, a}};
    ck_fails(safetensors_write(file_path(), tensors, 2, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(failed_write_leaves_the_old_file)
{
    static const float a[1] = {1};
    const tensor_source tensor = {"x", 1, {1}, a};
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/missing/x.safetensors", testing_folder()));
    ck_fails(safetensors_write(path, &tensor, 1, &error), SEM_INTERNAL);
    ck_assert(strstr(error.message, path) != NULL);
}
END_TEST

START_TEST(half_precision_is_converted_exactly)
{
    static const uint16_t half[] = {0x3C00, 0xC000, 0x0001, 0x8000, 0x7BFF, 0x7C00, 0x03FF, 0x7E00};
    static const float from_half[] = {1, -2, 0x1p-24f, -0.0f, 65504, INFINITY, 1023 * 0x1p-24f, NAN};
    static const uint16_t brain[] = {0x3F80, 0xC000, 0x0001, 0x7F80};
    static const float from_brain[] = {1, -2, 0x1p-133f, INFINITY};
    static const char header[] =
        "{" T("h", "F16", "[8]", 0, 16) "," T("b", "BF16", "[4]", 16, 24) "," T("i", "I64", "[1]", 24, 32) "}";
    unsigned char data[32] = {0};
    float out[8];
    safetensors *f;
    memcpy(data, half, sizeof half);
    memcpy(data + sizeof half, brain, sizeof brain);
    write_bytes(strlen(header), header, strlen(header), data, sizeof data);
    ck_ok(safetensors_open(&f, file_path(), &error));
    ck_ok(read_all(f, "h", out));
    for (size_t k = 0; k < 7; k++)
        ck_assert_msg(out[k] == from_half[k] && signbit(out[k]) == signbit(from_half[k]), "half %zu: %g", k, out[k]);
    ck_assert(isnan(out[7]));
    ck_ok(tensor_read(safetensors_find(f, "h"), 1, 2, out, &error));
    ck_assert(out[0] == from_half[1] && out[1] == from_half[2]);
    ck_ok(read_all(f, "b", out));
    for (size_t k = 0; k < 4; k++)
        ck_assert_msg(out[k] == from_brain[k], "brain %zu: %g", k, out[k]);
    ck_fails(read_all(f, "i", out), SEM_INVALID_ARGUMENT);
    safetensors_close(f);
}
END_TEST

START_TEST(unaligned_data_is_read)
{
    safetensors *f;
    float out[2];
    write_file("{" T("a", "U8", "[1]", 0, 1) "," T("b", "F32", "[2]", 1, 9) "}  ", 9);
    ck_ok(safetensors_open(&f, file_path(), &error));
    ck_ok(read_all(f, "b", out));
    ck_assert(out[0] == 0 && out[1] == 0);
    safetensors_close(f);
}
END_TEST

START_TEST(header_length_beyond_the_file_is_refused)
{
    static const uint64_t LENGTHS[] = {
        UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, UINT64_MAX / 2 + 1, 4294967296ULL, 4294967295ULL, 3, 104857601, 1,
        0};
    for (size_t i = 0; i < sizeof LENGTHS / sizeof LENGTHS[0]; i++) {
        char found[32];
        snprintf(found, sizeof found, "%llu", (unsigned long long)LENGTHS[i]);
        write_claim(LENGTHS[i], "{}", 2, 0);
        expect_refused(found, "expected 2 to 2");
    }
}
END_TEST

START_TEST(header_over_the_formats_limit_is_refused_unread)
{
    write_claim(104857601, "{}", 2, 0);
    ck_assert_int_eq(truncate(file_path(), 200 << 20), 0); /* sparse */
    expect_refused("104857601", "expected 2 to 104857600");
}
END_TEST

START_TEST(files_without_a_whole_prefix_are_refused)
{
    for (size_t n = 0; n < 8; n++) {
        ck_ok(files_write(file_path(), "\1\0\0\0\0\0\0", n, &error));
        expect_refused("expected at least 8", "bytes");
    }
    safetensors *f;
    ck_fails(safetensors_open(&f, testing_folder(), &error), SEM_INVALID_ARGUMENT);
    ck_fails(safetensors_open(&f, "/nonexistent/x", &error), SEM_NOT_FOUND);
}
END_TEST

START_TEST(deeply_nested_header_is_refused)
{
    size_t depth = 1 << 20;
    char *header = malloc(depth + 1);
    ck_assert_ptr_nonnull(header);
    memset(header, '[', depth);
    header[depth] = '\0';
    write_file(header, 0);
    expect_refused("not valid JSON", "depth");
    free(header);
}
END_TEST

static const struct {
    const char *header;
    size_t data;
    const char *first, *second;
} HOSTILE[] = {
    {"{ ", 0, "not valid JSON", "byte"},
    {"[]", 0, "an array", "expected an object"},
    {"{\"a\":1}", 0, "tensor a", "expected an object"},
    {"{\"a\":null}", 0, "tensor a", "expected an object"},
    {"{\"__metadata__\":[]}", 0, "__metadata__", "expected an object"},
    {"{\"a\":{}}", 0, "tensor a", "dtype"},
    {"{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8, "not valid JSON", "duplicate"},
    {"{" T("a", "F31", "[1]", 0, 4) "}", 4, "tensor a", "F31"},
    {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a", "an integer"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "tensor a", "more"},
    {"{" T("a", "F32", "1", 0, 4) "}", 4, "tensor a", "expected an array"},
    {"{" T("a", "F32", "[1.0]", 0, 4) "}", 4, "tensor a", "a fraction"},
    {"{" T("a", "F32", "[-1]", 0, 4) "}", 4, "tensor a", "-1"},
    {"{" T("a", "F32", "[\"1\"]", 0, 4) "}", 4, "tensor a", "a string"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "tensor a", "9 dimensions"},
    {"{" T("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, "tensor a", "64 bits"},
    {"{" T("a", "F32", "[4611686018427387904]", 0, 0) "}", 0, "tensor a", "64 bits"},
    {"{" T("a", "F32", "[99999999999999999999]", 0, 4) "}", 4, "not valid JSON", "integer"},
    {"{" T("a", "F32", "[2]", 0, 4) "}", 4, "found 4 bytes", "expected 8"},
    {"{" T("a", "F16", "[2]", 0, 8) "}", 8, "found 8 bytes", "expected 4"},
    {"{" T("a", "F32", "[2]", 0, 8) "}", 7, "[0, 8]", "7 bytes of data"},
    {"{" T("a", "F32", "[1]", 8, 4) "}", 8, "[8, 4]", "expected a range"},
    {"{" T("a", "F32", "[1]", -4, 0) "}", 8, "tensor a", "negative"},
    {"{" T("a", "F32", "[1]", 0.0, 4) "}", 8, "tensor a", "a fraction"},
    {"{" T("a", "F32", "[1]", 0, 9223372036854775807) "}", 8, "tensor a", "9223372036854775807"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "tensor a", "two integers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 8, "tensor a", "two integers"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 4, 12) "}", 12, "tensor b", "overlaps"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 0, 8) "}", 8, "tensor b", "overlaps"},
    {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12, "tensor b", "hole"},
    {"{" T("a", "F32", "[1]", 4, 8) "}", 8, "tensor a", "hole"},
    {"{" T("a", "F32", "[1]", 0, 4) "}", 8, "byte 4", "8"},
    {"{}", 4, "byte 0", "4"},
    {"{}x", 0, "not valid JSON", "byte"},
    {"{\"\\ud800\":{}}", 0, "not valid JSON", "byte"},
};

START_TEST(hostile_headers_are_refused_by_name)
{
    write_file(HOSTILE[_i].header, HOSTILE[_i].data);
    expect_refused(HOSTILE[_i].first, HOSTILE[_i].second);
}
END_TEST

/* Every prefix of a good file and every single changed byte is either refused
 * or read within its bounds (the sanitizers watch). */
START_TEST(damaged_files_are_never_read_out_of_bounds)
{
    static const char HEADER[] = "{" T("a", "F32", "[2,1]", 0, 8) "," T("bc", "F16", "[3]", 8, 14) "}";
    size_t size = 8 + sizeof HEADER - 1 + 14;
    char good[256] = {0}, bad[256];
    float out[16];
    uint64_t length = sizeof HEADER - 1;
    memcpy(good, &length, 8);
    memcpy(good + 8, HEADER, sizeof HEADER - 1);
    for (size_t i = 0; i < size * 9; i++) {
        size_t n = i < size ? i : size;
        memcpy(bad, good, size);
        if (i >= size)
            bad[(i - size) % size] ^= (char)(1 << (i - size) / size);
        FILE *file = fopen(file_path(), "wb");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(bad, 1, n, file), n);
        fclose(file);
        safetensors *f;
        if (safetensors_open(&f, file_path(), &error) != SEM_OK)
            continue;
        ck_assert_msg(i >= size, "a file cut to %zu bytes was accepted", n);
        for (size_t k = 0; k < safetensors_count(f); k++)
            if (safetensors_at(f, k)->elements <= 16)
                (void)tensor_read(safetensors_at(f, k), 0, safetensors_at(f, k)->elements, out, &error);
        safetensors_close(f);
    }
}
END_TEST

START_TEST(minilm_is_read_whole)
{
    const char *model = testing_minilm();
    if (model == NULL)
        return;
    char path[FILES_PATH_MAX];
    safetensors *f;
    ck_ok(files_join(path, &error, "%s/model.safetensors", model));
    ck_ok(safetensors_open(&f, path, &error));
    const tensor_view *words = safetensors_find(f, "embeddings.word_embeddings.weight");
    ck_assert_ptr_nonnull(words);
    ck_assert_uint_eq(words->shape[0], 30522);
    ck_assert_uint_eq(words->shape[1], 384);
    ck_assert_int_eq(safetensors_find(f, "embeddings.position_ids")->dtype, TENSOR_I64);
    safetensors_close(f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, what_is_written_is_read_back);
    tcase_add_test(c, writing_refuses_a_name_given_twice);
    tcase_add_test(c, failed_write_leaves_the_old_file);
    tcase_add_test(c, half_precision_is_converted_exactly);
    tcase_add_test(c, unaligned_data_is_read);
    tcase_add_test(c, header_length_beyond_the_file_is_refused);
    tcase_add_test(c, header_over_the_formats_limit_is_refused_unread);
    tcase_add_test(c, files_without_a_whole_prefix_are_refused);
    tcase_add_test(c, deeply_nested_header_is_refused);
    tcase_add_loop_test(c, hostile_headers_are_refused_by_name, 0, sizeof HOSTILE / sizeof HOSTILE[0]);
    tcase_add_test(c, damaged_files_are_never_read_out_of_bounds);
    tcase_add_test(c, minilm_is_read_whole);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
