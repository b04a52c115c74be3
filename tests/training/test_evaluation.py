"""When students are looked at."""

from labeldistill.training.evaluation import candidate_steps


def test_students_are_looked_at_where_the_authors_looked():
    few, many = (candidate_steps(count) for count in (100, 101))
    assert (len(few), few[:5], few[-2:]) == (23, [10, 25, 50, 75, 100], [950, 1000])
    assert (many[0], many[-1]) == (10, 1701)
