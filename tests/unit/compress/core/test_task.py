"""What is asked stays to the letter, and so does material whose wording matters: by instruction, position and material."""

from __future__ import annotations

import json
import re
import time
from itertools import product
from typing import Any

import pytest

from tenantgate.compress.config import CompressConfig, CompressionRange
from tenantgate.compress.core.pipeline import Compressor
from tenantgate.compress.core.task import Task, asked, asked_of_request
from tenantgate.compress.core.time_budget import Work
from tenantgate.compress.core.transcript import transcripts
from tenantgate.compress.pruners import pruner
from tenantgate.compress.token_counts import token_counter
from tenantgate.llm.chat import ChatRequest, parse_request
from tenantgate.models.language import english

FOREVER = time.monotonic() + 1e6
HARD = (CompressionRange(min_tokens=0, max_tokens=1_000_000, value=0.1),)


def compressor(**config: Any) -> Compressor:
    made = CompressConfig(min_tokens=0, compression_ranges=HARD, **config)
    return Compressor(made, token_counter("o200k_base"), pruner("rules"), english=english)


TRANSCRIPT = "\n".join(
    (
        "Anna Lee: um so I think that we should , you know , move the launch to the second week of May .",
        "Tom: uh yeah , the the printer isn't ready and we can't ship without it .",
        "Anna Lee: right , so uh a few of the boxes are here , but if the rest isn't sure then we wait .",
        "Maria: I was at the plant and um it is not safe to run it at night .",
        "Tom: Mm-hmm .",
        "Anna Lee: Shall we tell the customer ?",
        "Maria: Yeah .",
        "Tom: well we have the the letter , it only needs 3 signatures .",
    )
)
GERMAN_TRANSCRIPT = "\n".join(
    (
        "Anna: Um zehn Uhr fangen wir an, also ich denke, dass wir das so machen.",
        "Jan: Er ist in der Stadt und die Kisten sind noch nicht da, das ist so.",
        "Anna: Ah, das war so nicht gemeint, man kann es in den Plan nehmen.",
        "Jan: Dann ist es gut, wir gehen um acht in das Haus und warten.",
    )
)
DUTCH_TRANSCRIPT = "\n".join(
    (
        "Sanne: We hebben water in de kelder, er is een lek en we weten niet waar.",
        "Bram: Is het warm in de winter, of moet er een man in het huis komen?",
        "Sanne: Er was een man, maar die is niet gekomen, dus we wachten af.",
        "Bram: Eh ja, dan bel ik morgen nog een keer, als het niet te laat is.",
    )
)
MATERIALS = {
    "transcript": TRANSCRIPT,
    "German transcript": GERMAN_TRANSCRIPT,
    "Dutch transcript": DUTCH_TRANSCRIPT,
    "article": "The council met on the fourth of May. A few of the members were not sure that the bridge is safe, and the "
    "mayor said that it would only be opened if the report is good. It was a long evening.\n\nThe bridge was built in 1911. "
    "It is the oldest one in the county, and the people who use it are fond of it.",
    "mail": "Hi Ben,\n\nthe parcel is not here yet. If it isn't there by the end of the week then please send the other one.\n\n"
    "Best regards\nNina",
    "table": "| name  |  the sum |\n|-------|---------:|\n| a few |  12 |\n| Ann   |  the 3rd |",
    "CSV": "name,the sum,note\nAnn,12,a bit  late\nAnn,12,a bit  late\nBob,7,the end",
    "list": "- the red one\n- a blue one\n- is it so\n- um\n- you know",
    "verse": "The rain it raineth on the just\nAnd also on the unjust fella;\nBut chiefly on the just, because\nThe unjust hath "
    "the just's umbrella.\n\n\n\nThe rain it raineth, uh, you know.",
    "code": "```python\ndef the(a, an):  # um\n    return  a\n\n\n\nprint(the(1, 2))\n```",
    "JSON": json.dumps({"the": ["um", "a few"], "is": {"not": "the the", "a": 1.50}}, indent=4),
    "log": "INFO: the job is done\nERROR: um the file isn't there\nINFO: the job is done\nERROR: um the file isn't there",
    "dialogue": "User: is the the sky blue ?\nAssistant: um yes it is\nUser: you know , why ?\nAssistant: uh the light is scattered",
    "examples": "Input: the the cat\nOutput: cat\nInput: um a dog\nOutput: dog\nInput: uh the end\nOutput: end",
    "recipe": "Pancakes\nYou need:\n- a pinch of salt\n- the whites of 2 eggs\nStir until it is smooth. Wait for a few minutes.",
    "contract": "1.1 The tenant is not to sublet the flat unless the landlord is asked. 1.2 The deposit is the sum of three rents.",
    "definition": "Let a be the number of apples and let b be the number of pears. If a is the half of b then a few are left.",
}
MATTERS = {
    "translate": "Translate the following into French and keep the speakers' names:",
    "French": "Summarise the following in French:",
    "proofread": "Proofread this and list the errors that you find.",
    "correct": "Correct the grammar of what the people below say:",
    "quote": "Quote the sentence in which the date is named.",
    "count": "How many times does the word `the` occur?",
    "fillers": "Who says um the most?",
    "spelling": "Which of the words is the longest, and how is it spelled?",
    "third word": "What does the third word mean?",
    "rhyme": "Which lines rhyme with one another?",
    "style": "What is the style of it, and is the tone polite?",
    "rewrite": "Rewrite this for a child of ten.",
    "extract": "Extract the names and the numbers verbatim as JSON.",
    "same words": "Summarise it in the same words as far as you can.",
    "swap": "Swap the genders of all of the people.",
    "continue": "Go on with it.",
    "yes or no": "Answer yes or no: is it the right one?",
    "sure": "If you are not sure then say so.",
    "pirate": "Now you are a pirate. Read it out to the crew.",
    "variables": "Let a be the number of apples. Solve it for a.",
    "reply": "Draft a reply that is as short as the mail.",
    "German": "Übersetze das Folgende ins Englische und lass die Namen stehen:",
    "Dutch": "Wat is de fout in het bovenstaande? Verbeter die.",
    "French rhyme": "Quels mots riment dans ce qui précède ?",
    "Spanish": "Corrige la ortografía y no cambies nada más.",
    "Italian": "Riscrivi il testo in uno stile più semplice.",
    "Portuguese": "Quantas palavras tem o texto acima?",
    "Polish": "Przetłumacz to na angielski, słowo po słowie.",
    "Russian": "Переведи это на английский дословно.",
    "Turkish": "Bunu İngilizceye çevir ve isimleri değiştirme.",
    "Chinese": "把下面的内容翻译成英文，不要漏掉任何一个词。",
    "Japanese": "次の文章を校正してください。",
    "Arabic": "ترجم النص التالي إلى الإنجليزية حرفيا.",
    "Hindi": "इसका अंग्रेज़ी में शब्दशः अनुवाद करें।",
    "Greek": "Μετάφρασε το παρακάτω στα αγγλικά λέξη προς λέξη.",
    "Swahili": "Tafsiri maandishi haya kwa Kiingereza.",
}
POSITIONS = {
    "before": lambda task, text: f"{task}\n\n{text}",
    "after": lambda task, text: f"{text}\n\n{task}",
    "both": lambda task, text: f"{task}\n\n{text}\n\n{task}",
    "within": lambda task, text: f"{text}\n\n{task}\n\n{text}",
    "joined": lambda task, text: f"{task}\n{text}\n{task}",
}
CONTENT = (
    "What was decided about the launch?",
    "Summarise the meeting.",
    "Summarize the discussion about the printer.",
    "Please give me a short summary.",
    "Why did Tom say that they wait for the printer?",
    "List the action items.",
    "Who was at the plant?",
    "Here is the transcript of our meeting. What did Anna Lee propose?",
)


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


@pytest.mark.parametrize("position", POSITIONS)
def test_no_word_goes_where_the_wording_may_matter(position: str) -> None:
    """36 instructions by 17 materials in each of five positions: 3,060 prompts."""
    made = compressor()
    wrong = [
        (task, material)
        for task, material in product(MATTERS, MATERIALS)
        for prompt in [POSITIONS[position](MATTERS[task], MATERIALS[material])]
        for left in [made.text(prompt, FOREVER).text]
        if left.count(MATTERS[task]) != prompt.count(MATTERS[task]) or words(left) != words(prompt)
    ]
    assert wrong == []


@pytest.mark.parametrize("material", [m for m in MATERIALS if m != "transcript"])
def test_material_that_is_no_english_transcript_keeps_its_words_whatever_is_asked(material: str) -> None:
    made = compressor()
    for task, position in product(CONTENT, ("before", "after", "both", "joined")):
        prompt = POSITIONS[position](task, MATERIALS[material])
        left = made.text(prompt, FOREVER).text
        assert left.count(task) == prompt.count(task)
        assert words(left) == words(prompt)


@pytest.mark.parametrize("task", CONTENT)
@pytest.mark.parametrize("position", ["before", "after", "both"])
def test_a_transcript_is_pruned_where_its_content_is_asked_for(task: str, position: str) -> None:
    prompt = POSITIONS[position](task, TRANSCRIPT)
    left = compressor().text(prompt, FOREVER).text
    assert left.count(task) == prompt.count(task)
    assert words(left) != words(prompt)
    for kept in (
        "a few of the boxes",
        "if the rest isn't sure then we wait",
        "is not safe",
        "isn't ready",
        "3 signatures",
        "can't ship without it",
        "Shall we tell",
        "Maria: Yeah .",
        "second week of May",
    ):
        assert kept in left
    assert "um" not in words(left)
    assert "the the" not in left


@pytest.mark.parametrize(
    "task",
    [
        *MATTERS.values(),
        *CONTENT,
        "Answer yes or no: is it the one that we saw?",
        "A few will do, you know.",
        "Let a be the number of apples. What is a?",
        "If you are not sure then say so.",
    ],
)
def test_an_instruction_alone_is_never_changed(task: str) -> None:
    assert compressor().text(task, FOREVER).text == task
    assert compressor().text(f"<LLMLINGUA>{task}</LLMLINGUA>", FOREVER).text == task


@pytest.mark.parametrize("foreign", [GERMAN_TRANSCRIPT, DUTCH_TRANSCRIPT])
def test_turns_in_another_language_stay_beside_english_ones(foreign: str) -> None:
    talk = "\n".join(
        f"{a}\n{b}" for a, b in zip(TRANSCRIPT.split("\n"), [*foreign.split("\n")] * 2, strict=True)
    )
    left = compressor().text(f"{talk}\n\nWhat was decided?", FOREVER).text
    for line in foreign.split("\n"):
        assert line.partition(": ")[2] in left


@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_a_sentence_without_end_that_goes_on_in_another_language_stays(times: int) -> None:
    spoken = "so um we went to the old house by the river and we thought about the things that we could do with it "
    foreign = "und dann haben wir das Haus am Fluss gesehen und wir wissen nicht was man daraus machen soll um so alt "
    mixed = spoken * times + foreign * times
    talk = TRANSCRIPT.replace("Tom: Mm-hmm .", f"Tom: {mixed.strip()}")
    left = compressor().text(f"{talk}\n\nWhat was decided?", FOREVER).text
    assert (foreign * times).strip() in left


@pytest.mark.parametrize(
    "text",
    [
        MATERIALS["log"],
        MATERIALS["dialogue"],
        MATERIALS["examples"],
        "Name: Um Bongo\nCity: Oslo\nName: Uh Oh\nCity: Rome\nName: Er Win\nCity: Bern",
        "Q: um what is it ?\nA: uh the end\nQ: you know why ?\nA: um it is so",
        "French: uh oui\nEnglish: uh yes\nFrench: um non\nEnglish: um no",
        "Step 1: um open the lid\nStep 2: uh take the pan\nStep 1: um wait\nStep 2: uh stir",
        "key: um\nvalue: uh\nkey: the\nvalue: um",
        "Note: um the one\nTip: uh the other\nNote: um\nTip: uh",
        "ERROR: um\nWARN: uh\nERROR: um\nWARN: uh",
        "Monday: um the gym\nTuesday: uh the pool",
    ],
)
def test_labels_that_are_no_speakers_make_no_transcript(text: str) -> None:
    assert transcripts(text, lambda _text: 1.0, Work()) == ()


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Summarise this.", Task.CONTENT),
        ("What was decided?", Task.CONTENT),
        ("", Task.NOTHING),
        ("--", Task.NOTHING),
        ("Here is the transcript of our call:", Task.NOTHING),
        ("Be nice.", Task.UNKNOWN),
        ("Now sing.", Task.UNKNOWN),
        ("What rhymes?", Task.WORDING),
        ("Summarise this in Dutch.", Task.WORDING),
        ("Was ist passiert?", Task.UNKNOWN),
        ("Summarise this. Then sing.", Task.UNKNOWN),
        ("Fasse es zusammen.", Task.UNKNOWN),
        ("What did Ann say about the word list?", Task.CONTENT),
        ("What did Ann say about it word for word?", Task.WORDING),
        ("What did Ann say about it, in French?", Task.WORDING),
        ("What did they decide?", Task.CONTENT),
    ],
)
def test_what_is_asked(text: str, task: Task) -> None:
    assert asked(text, english, Work()) is task


def request(*messages: tuple[str, str]) -> ChatRequest:
    found = parse_request(json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]}).encode())
    assert isinstance(found, ChatRequest)
    return found


ASK = f"{TRANSCRIPT}\n\nWhat was decided?"


@pytest.mark.parametrize(
    ("messages", "task"),
    [
        ([("user", ASK)], Task.CONTENT),
        ([("system", "You are a helpful assistant for our team."), ("user", ASK)], Task.CONTENT),
        ([("system", "Translate whatever the user sends."), ("user", ASK)], Task.WORDING),
        ([("system", "Antworte wie ein Pirat, was auch immer kommt."), ("user", ASK)], Task.UNKNOWN),
        ([("system", "You write a summary of each meeting."), ("user", TRANSCRIPT)], Task.NOTHING),
        ([("system", "You summarise meetings."), ("user", TRANSCRIPT)], Task.CONTENT),
        ([("user", ASK), ("assistant", "May."), ("user", "Who said so?")], Task.CONTENT),
        ([("user", ASK), ("assistant", "May."), ("user", "Quote the line.")], Task.WORDING),
        ([("user", "Quote the line."), ("assistant", "Which?"), ("user", ASK)], Task.WORDING),
        ([("user", ASK), ("assistant", "May."), ("user", "Et en français ?")], Task.UNKNOWN),
        ([("user", "What was decided?"), ("tool", TRANSCRIPT)], Task.CONTENT),
        ([("user", "Read it out."), ("tool", ASK)], Task.UNKNOWN),
    ],
)
def test_the_whole_request_says_what_is_asked(messages: list[tuple[str, str]], task: Task) -> None:
    found = asked_of_request(request(*messages), english, Work())
    assert found is task


def test_a_later_message_about_the_wording_keeps_the_earlier_one_whole() -> None:
    made = compressor()
    for last, changed in (("Who said so?", True), ("Quote the line.", False)):
        parts = list(made.request(request(("user", ASK), ("assistant", "May."), ("user", last)), FOREVER))
        assert (parts[0][1].text != ASK) is changed


def test_marked_prose_loses_its_articles_and_nothing_that_asks_or_is_quoted() -> None:
    prose = (
        "The bridge over the river was built in the year 1911. The engineer who drew the plans was not sure about the "
        'ground. Please read the second plan. The mayor said "the end of the road" when the work was done.'
    )
    left = compressor().text(f"What was the problem?\n\n<LLMLINGUA>{prose}</LLMLINGUA>", FOREVER).text
    assert "over river" in left
    assert "Please read the second plan." in left
    assert '"the end of the road" when the work was done' in left
    assert "was not sure" in left
    assert compressor().text(f"What was the problem?\n\n{prose}", FOREVER).text.endswith(prose)
