/* biased_test.c - a lock that one party takes for free until another comes: base/biased.h. */
#include "support.h"

#include "base/biased.h"

static struct weft__biased claim;

enum { ME = WEFT__BIASED_PARTIES, YOU, HER };

static void begin(int free)
{
    weft__fences_init();
    weft__fence_is_free = free && weft__fence_is_free;
    weft__biased_init(&claim);
}

static void give_back(at_int *word)
{
    ati_store_release(word, 0);
}

START_TEST(it_is_had_by_one_at_a_time)
{
    begin(_i);
    for (int i = 0; i < 3; i++) {
        at_int *word = weft__biased_try(&claim, ME);
        ck_assert_ptr_nonnull(word);
        ck_assert_ptr_null(weft__biased_try(&claim, ME));
        ck_assert_ptr_null(weft__biased_try(&claim, YOU));
        ck_assert_ptr_null(weft__biased_try(&claim, ME));
        ck_assert_ptr_null(weft__biased_try(&claim, HER));
        give_back(word);
    }
}
END_TEST

START_TEST(who_comes_later_has_it_too)
{
    begin(_i);
    for (int i = 0; i < 3; i++)
        for (uint64_t party = ME; party <= HER; party++) {
            at_int *word = weft__biased_try(&claim, party);
            ck_assert_ptr_nonnull(word);
            ck_assert_ptr_null(weft__biased_try(&claim, YOU));
            give_back(word);
        }
}
END_TEST

START_TEST(the_right_is_the_firsts_until_another_comes)
{
    begin(1);
    bool offered = weft__fence_is_free;
    for (int i = 0; i < 3; i++) {
        at_int *word = weft__biased_try(&claim, ME);
        ck_assert_ptr_eq(word, offered ? &claim.held : &claim.taken);
        give_back(word);
    }
    at_int *word = weft__biased_try(&claim, YOU);
    ck_assert_ptr_eq(word, &claim.taken);
    give_back(word);
    word = weft__biased_try(&claim, ME);
    ck_assert_ptr_eq(word, &claim.taken);
    give_back(word);
}
END_TEST

START_TEST(it_is_given_back_by_the_word_it_was_had_by)
{
    begin(1);
    at_int *word = weft__biased_try(&claim, ME);
    ck_assert_ptr_null(weft__biased_try(&claim, YOU)); /* the right is gone meanwhile */
    ck_assert_ptr_null(weft__biased_try(&claim, HER));
    give_back(word);
    word = weft__biased_try(&claim, HER);
    ck_assert_ptr_eq(word, &claim.taken);
    ck_assert_ptr_null(weft__biased_try(&claim, ME));
    give_back(word);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("biased");
    TCase *tc = add_case(s, "the lock");
    tcase_add_loop_test(tc, it_is_had_by_one_at_a_time, 0, 2);
    tcase_add_loop_test(tc, who_comes_later_has_it_too, 0, 2);
    tcase_add_test(tc, the_right_is_the_firsts_until_another_comes);
    tcase_add_test(tc, it_is_given_back_by_the_word_it_was_had_by);
    return run_suite(s);
}
