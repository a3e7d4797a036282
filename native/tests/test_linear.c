/*
 * The checker of histories, on histories that are known to be right or wrong.
 */
#include "check.h"
#include "linear.h"

static struct linear_history history;

static void
begin(bool may_forget)
{
    history = (struct linear_history){.may_forget = may_forget};
}

static struct linear_operation *
add(uint64_t called, uint64_t returned, enum linear_kind kind,
    enum linear_outcome outcome, uint32_t argument, uint32_t result)
{
    struct linear_operation *operation = &history.operations[history.count++];

    *operation = (struct linear_operation){.called = called,
                                           .returned = returned,
                                           .kind = (uint8_t)kind,
                                           .outcome = (uint8_t)outcome,
                                           .argument = argument,
                                           .result = result};
    return operation;
}

static void
put(uint64_t called, uint64_t returned, uint32_t value)
{
    add(called, returned, LINEAR_PUT, LINEAR_YES, value, 0);
}

/* value 0: a miss */
static void
get(uint64_t called, uint64_t returned, uint32_t value)
{
    add(called, returned, LINEAR_GET, value ? LINEAR_YES : LINEAR_NO, 0, value);
}

static void
expect(enum linear_verdict verdict)
{
    if (!CHECK_EQ(linear_check(&history), verdict))
        linear_print(&history, stderr);
}

static void
test_reads_during_a_write_may_see_either(void)
{
    for (uint32_t first = 1; first <= 2; first++) {
        begin(false);
        put(0, 1, 1);
        put(2, 9, 2);
        get(3, 4, first);
        expect(LINEAR_HOLDS);
    }
}

static void
test_a_read_never_goes_back(void)
{
    begin(false);
    put(0, 1, 1);
    put(2, 9, 2);
    get(3, 4, 2);
    get(5, 6, 1);
    expect(LINEAR_BROKEN);
    history.may_forget = true;
    expect(LINEAR_BROKEN);
}

static void
test_what_returned_is_seen(void)
{
    begin(false);
    put(0, 1, 1);
    put(2, 3, 2);
    get(4, 5, 1);
    expect(LINEAR_BROKEN);
    begin(false);
    put(0, 1, 1);
    get(2, 3, 0);
    expect(LINEAR_BROKEN);
}

static void
test_a_value_that_nobody_put_is_never_read(void)
{
    begin(true);
    put(0, 9, 1);
    get(2, 3, 7);
    expect(LINEAR_BROKEN);
}

static void
test_forgetting_is_for_good(void)
{
    begin(true);
    put(0, 1, 1);
    get(2, 3, 0);
    expect(LINEAR_HOLDS);
    get(4, 5, 1);
    expect(LINEAR_BROKEN);
    put(6, 7, 2);
    get(8, 9, 2);
    expect(LINEAR_BROKEN);
}

static void
test_what_was_deleted_stays_away(void)
{
    begin(false);
    put(0, 1, 1);
    add(2, 5, LINEAR_DELETE, LINEAR_YES, 0, 0);
    get(3, 4, 1);
    expect(LINEAR_HOLDS);
    get(6, 7, 1);
    expect(LINEAR_BROKEN);
}

/* Planted bug in what is checked: two callers both get "stored". */
static void
test_one_of_two_wins(void)
{
    begin(false);
    add(0, 5, LINEAR_ADD, LINEAR_YES, 1, 0);
    add(1, 4, LINEAR_ADD, LINEAR_NO, 2, 0);
    get(6, 7, 1);
    expect(LINEAR_HOLDS);
    history.operations[1].outcome = LINEAR_YES;
    expect(LINEAR_BROKEN);
    begin(false);
    put(0, 1, 1);
    add(2, 5, LINEAR_SWAP, LINEAR_YES, 2, 0)->expected = 1;
    add(2, 5, LINEAR_SWAP, LINEAR_YES, 3, 0)->expected = 1;
    expect(LINEAR_BROKEN);
    history.operations[2].outcome = LINEAR_NO;
    expect(LINEAR_HOLDS);
}

static void
test_no_increment_is_lost_or_counted_twice(void)
{
    begin(false);
    add(0, 5, LINEAR_ADVANCE_NEW, LINEAR_YES, 1, 2);
    add(0, 5, LINEAR_ADVANCE_NEW, LINEAR_YES, 1, 1);
    get(6, 7, 2);
    expect(LINEAR_HOLDS);
    history.operations[0].result = 1;
    expect(LINEAR_BROKEN);
}

static void
test_the_killed_did_it_once_or_never(void)
{
    for (uint32_t seen = 1; seen <= 2; seen++) {
        begin(false);
        put(0, 1, 1);
        put(2, LINEAR_PENDING, 2);
        get(8, 9, seen);
        expect(LINEAR_HOLDS);
    }
    get(10, 11, 1); /* it was seen to have happened */
    expect(LINEAR_BROKEN);
    begin(false);
    get(0, 1, 2); /* not before it was called */
    put(2, LINEAR_PENDING, 2);
    expect(LINEAR_BROKEN);
}

static void
test_a_killed_put_may_lose_the_key_and_a_killed_increment_may_not(void)
{
    begin(false);
    put(0, 1, 1);
    put(2, LINEAR_PENDING, 2);
    get(8, 9, 0);
    expect(LINEAR_HOLDS);
    begin(false);
    add(0, 1, LINEAR_ADVANCE_NEW, LINEAR_YES, 1, 1);
    add(2, LINEAR_PENDING, LINEAR_ADVANCE, LINEAR_YES, 1, 0);
    get(8, 9, 0);
    expect(LINEAR_BROKEN);
    history.operations[2].outcome = LINEAR_YES;
    history.operations[2].result = 2;
    expect(LINEAR_HOLDS);
}

static void
test_a_put_for_which_there_was_no_room_leaves_nothing(void)
{
    begin(false);
    put(0, 1, 1);
    add(2, 3, LINEAR_PUT, LINEAR_DROPPED, 2, 0);
    get(4, 5, 0);
    expect(LINEAR_HOLDS);
    get(6, 7, 1);
    expect(LINEAR_BROKEN);
}

/* Sixty operations that all overlap, in an order that one cannot guess at once. */
static void
test_long_histories_are_decided(void)
{
    begin(false);
    for (uint32_t number = 1; number <= 30; number++) {
        put(0, 1000, number);
        get(10 * number, 10 * number + 5, number);
    }
    expect(LINEAR_HOLDS);
    get(1001, 1002, 30);
    expect(LINEAR_HOLDS);
    history.operations[history.count - 1].result = 0;
    history.operations[history.count - 1].outcome = LINEAR_NO;
    CHECK(linear_check(&history) != LINEAR_HOLDS);
}

int
main(void)
{
    RUN(test_reads_during_a_write_may_see_either);
    RUN(test_a_read_never_goes_back);
    RUN(test_what_returned_is_seen);
    RUN(test_a_value_that_nobody_put_is_never_read);
    RUN(test_forgetting_is_for_good);
    RUN(test_what_was_deleted_stays_away);
    RUN(test_one_of_two_wins);
    RUN(test_no_increment_is_lost_or_counted_twice);
    RUN(test_the_killed_did_it_once_or_never);
    RUN(test_a_killed_put_may_lose_the_key_and_a_killed_increment_may_not);
    RUN(test_a_put_for_which_there_was_no_room_leaves_nothing);
    RUN(test_long_histories_are_decided);
    return check_report();
}
