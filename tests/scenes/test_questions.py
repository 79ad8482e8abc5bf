"""Questions: every answer is checked against the scene by an independent reading of the question."""

import random
import re
from collections import Counter

import pytest
from textlens.scenes.questions import TYPES, Question, questions
from textlens.scenes.scene import scene_at
from textlens.scenes.world import COLOURS, PLACES, Scene, SceneObject, phrase, plural

SOME = 300


def asked(seed: int = 5) -> list[tuple[Scene, Question]]:
    scenes = [scene_at(index, "test", seed) for index in range(SOME)]
    return [(scene, question) for i, scene in enumerate(scenes) for question in questions(scene, random.Random(i))]


def named(scene: Scene, words: str) -> list[SceneObject]:
    return [thing for thing in scene.objects if words in (phrase(thing.noun), plural(thing.noun))]


def truth(scene: Scene, question: str) -> str:
    """The answer, read off the scene by the words of the question alone."""
    if match := re.fullmatch(r"What is in the (.+)\?", question):
        return next(thing.noun for thing in scene.objects if thing.place == match[1])
    if match := re.fullmatch(r"What is (\w+)\?", question):
        return next(thing.noun for thing in scene.objects if thing.colour == match[1])
    if question == "What color is the background?":
        return scene.background
    if match := re.fullmatch(r"What color is the (.+)\?", question):
        return named(scene, match[1])[0].colour
    if question == "How many things are there?":
        return str(len(scene.objects))
    if match := re.fullmatch(r"How many (.+) are there\?", question):
        return str(len(named(scene, match[1])))
    if match := re.fullmatch(r"Where is the (.+)\?", question):
        return named(scene, match[1])[0].place
    if match := re.fullmatch(r"Is there an? (.+)\?", question):
        return "yes" if named(scene, match[1]) else "no"
    if match := re.fullmatch(rf"Is the ({'|'.join(PLACES)}) empty\?", question):
        return "no" if any(thing.place == match[1] for thing in scene.objects) else "yes"
    if match := re.fullmatch(rf"Is the (.+) ({'|'.join(COLOURS)})\?", question):
        return "yes" if named(scene, match[1])[0].colour == match[2] else "no"
    if match := re.fullmatch(r"Which is larger, the (.+) or the (.+)\?", question):
        return next(thing.noun for name in match.groups() for thing in named(scene, name) if thing.size == "large")
    if match := re.fullmatch(r"Are the (.+) and the (.+) the same color\?", question):
        one, two = (named(scene, name)[0].colour for name in match.groups())
        return "yes" if one == two else "no"
    match = re.fullmatch(r"What (letter|number) is shown\?", question)
    assert match, question
    return next(thing.noun for thing in scene.objects if phrase(thing.noun).startswith(match[1]))


def test_every_answer_is_true():
    for scene, question in asked():
        assert question.answer == truth(scene, question.question), (scene, question)


def test_every_type_is_asked_and_questions_about_one_thing_are_unambiguous():
    assert {question.type for _, question in asked()} == set(TYPES)
    for scene, question in asked():
        if question.type in ("where", "compare"):
            nouns = Counter(thing.noun for thing in scene.objects)
            named_nouns = [noun for noun in nouns if f"the {phrase(noun)}" in question.question]
            assert all(nouns[noun] == 1 for noun in named_nouns)


def test_annotators_agree_mostly_and_disagree_at_times():
    all_asked = [question for _, question in asked()]
    for question in all_asked:
        assert len(question.answers) == 10
        assert question.answers.count(question.answer) > 5, question
    unanimous = sum(len(set(question.answers)) == 1 for question in all_asked) / len(all_asked)
    assert 0.1 < unanimous < 0.9


@pytest.mark.parametrize("prefix", ["Is there", "Is the", "Are the"])
def test_yes_and_no_are_both_common(prefix):
    answers = Counter(question.answer for _, question in asked() if question.question.startswith(prefix))
    assert min(answers["yes"], answers["no"]) / sum(answers.values()) > (0.1 if prefix == "Are the" else 0.35)
