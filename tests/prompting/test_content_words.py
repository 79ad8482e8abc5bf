from textlens.prompting.faithfulness.content_words import caption_words, joined_words


def test_lemmas_of_nouns_verbs_and_adjectives():
    words = caption_words("Two smaller dogs are running on the wet sand .")
    assert words.nouns == {"dog", "sand"}
    assert words.content == {"dog", "sand", "run", "wet", "small"}
    assert words.all[-1] == "sand"
    assert "the" in words.all


def test_lists_of_words_and_figures():
    words = caption_words("likely: golden retriever (0.81), tennis ball (0.07)")
    assert {"retriever", "tennis", "ball"} <= words.nouns
    assert not any(character.isdigit() for word in words.all for character in word)
    assert caption_words("").content == frozenset()


def test_captions_are_joined():
    words = joined_words(["a dog", "a ball"])
    assert words.nouns == {"dog", "ball"}
    assert words.all == ("dog", "ball")
