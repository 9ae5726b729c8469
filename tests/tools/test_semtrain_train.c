/* What `semtrain train` leaves: the curve of the run, and the same model however often it was killed. */
#include "tests/tools/semtrain_run.h"

#include "finetune/curve.h"

#include <sys/stat.h>

enum { STEPS_MAX = 512 };

/* A curve's rows, without their seconds. */
typedef struct course {
    size_t count;
    curve_row rows[STEPS_MAX];
} course;

static void take_row(void *context, const curve_row *row)
{
    course *c = context;
    ck_assert_uint_lt(c->count, STEPS_MAX);
    ck_assert_uint_eq(row->step, c->count + 1); /* each step once */
    ck_assert(c->count == 0 || row->seconds >= c->rows[c->count - 1].seconds);
    c->rows[c->count++] = *row;
}

static course *read_course(const char *path)
{
    course *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    ck_ok(curve_read(path, take_row, c, &error));
    return c;
}

START_TEST(a_run_leaves_its_curve_in_numbers_and_as_a_picture)
{
    char command[PATH], line[3 * PATH];
    if (!small_recipe(command, "train"))
        return;
    snprintf(line, sizeof line, "-o train.evaluate_every=5 -o train.scale_kind=scheduled %s", command);
    ck_assert_int_eq(run(line), 0);
    course *c = read_course(testing_path("trained/semd_curve.csv"));
    ck_assert_uint_eq(c->count, 12);
    for (size_t i = 0; i < c->count; i++) {
        const bool measured = (i + 1) % 5 == 0 || i == 11;
        ck_assert_int_eq(c->rows[i].evaluated, measured);
        if (measured) /* the mean of two sets */
            ck_assert_double_eq_tol(c->rows[i].evaluation, (c->rows[i].figures[0] + c->rows[i].figures[1]) / 2, 1e-6);
        ck_assert(c->rows[i].loss >= 0 && c->rows[i].gradient_norm >= 0); /* 0 in a batch of one pair */
    }
    ck_assert_double_eq_tol(c->rows[0].scale, 1, 1e-9);
    ck_assert_double_eq_tol(c->rows[11].scale, 23, 1e-9);
    ck_assert_uint_ge(c->rows[11].examples, 12);
    ck_assert_uint_le(c->rows[11].examples, 24);
    /* What was measured at the last step is what the model in the folder is worth. */
    char after[64];
    snprintf(after, sizeof after, "%.4f\n", c->rows[11].figures[0]);
    ck_prints(after);
    ck_assert_int_eq(access(testing_path("trained/semd_curve.svg"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("trained.curve.csv"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("trained.tmp-saved"), F_OK), 0);
    free(c);
}
END_TEST

/* The recipe with all that keeps state, long enough to be killed in. */
static bool write_long_run(char line[4 * PATH], const char *where)
{
    char command[PATH];
    if (!small_recipe(command, "train"))
        return false;
    snprintf(line, 4 * PATH,
             "-o train.output=%s -o train.checkpoint=%s.state -o train.checkpoint_every=7 -o train.epochs=60 "
             "-o train.evaluate_every=20 -o train.average=0.9 -o train.scale_kind=learned -o train.threads=2 "
             "-o train.learning_rate=0.001 %s",
             where, where, command);
    return true;
}

START_TEST(a_run_killed_again_and_again_ends_with_the_bits_of_one_left_alone)
{
    char line[4 * PATH], whole[PATH], pieces[PATH];
    snprintf(whole, sizeof whole, "%s/whole", testing_folder());
    snprintf(pieces, sizeof pieces, "%s/pieces", testing_folder());
    if (!write_long_run(line, whole))
        return;
    ck_assert_msg(run(line) == 0, "%s", output);
    ck_assert(write_long_run(line, pieces));
    run_through_kills(line, "pieces");

    ck_same_files(testing_path("whole/model.safetensors"), testing_path("pieces/model.safetensors"));
    course *a = read_course(testing_path("whole/semd_curve.csv")),
           *b = read_course(testing_path("pieces/semd_curve.csv"));
    ck_assert_uint_gt(a->count, 100);
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        a->rows[i].seconds = b->rows[i].seconds = 0;
        const curve_row *x = &a->rows[i], *y = &b->rows[i];
        ck_assert(x->loss == y->loss && x->scale == y->scale && x->learning_rate == y->learning_rate &&
                  x->gradient_norm == y->gradient_norm && x->examples == y->examples && x->evaluated == y->evaluated);
        ck_assert(!x->evaluated || (x->evaluation == y->evaluation && x->figures[1] == y->figures[1]));
    }
    free(a);
    free(b);
}
END_TEST

/* Killed while the model is written, or just before. */
START_TEST(a_half_written_model_is_not_taken_for_a_whole_one)
{
    char line[4 * PATH], where[PATH];
    snprintf(where, sizeof where, "%s/trained", testing_folder());
    if (!write_long_run(line, where))
        return;
    write_file("trained.curve.csv", "step,examples\n1,");
    ck_assert_int_eq(mkdir(testing_path("trained.tmp-saved"), 0700), 0);
    write_file("trained.tmp-saved/model.safetensors", "half");
    ck_assert_msg(run(line) == 0, "%s", output);
    ck_assert_int_ne(access(testing_path("trained.tmp-saved"), F_OK), 0);
    course *c = read_course(testing_path("trained/semd_curve.csv"));
    ck_assert_uint_gt(c->count, 100);
    free(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_train");
    TCase *tests = tcase_create("train");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, a_run_leaves_its_curve_in_numbers_and_as_a_picture);
    tcase_add_test(tests, a_run_killed_again_and_again_ends_with_the_bits_of_one_left_alone);
    tcase_add_test(tests, a_half_written_model_is_not_taken_for_a_whole_one);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
