"""What the synthetic signs say: common words, shop talk and every kind of number."""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np

WORDS = tuple(
    """
    a about above across after again age air all along also am an and any apple are area arm around art as
    ask at away baby back bad bag baker ball bank bar bath bay beach bean bear beauty bed beef beer before
    bell best big bike bill bird black blue board boat body book boots both box boy bread break bridge bright
    bring brown build burger bus busy but butter buy by cafe cake call came can candy car card care cash
    castle cat centre chair change cheap check cheese chicken child choice church cinema circle city class
    clean clear clinic close cloth coach coast coat coffee cold college come cook cool copy corner cost
    cotton country court cover cream credit cross crown cup cut dairy dance dark date day deal dear deep
    dental design desk diesel dinner direct dog dollar door double down dream dress drink drive drug dry
    duck during each ear early earth east easy eat edge egg eight electric emergency empty end engine enter
    even every exit express extra eye face fair fall family farm fashion fast father field fine fire first
    fish fit five flat floor flower fly food foot for forest forty four free fresh from front fruit fuel full
    fun garden gas gate general gift girl give glass go gold good grand great green grill ground group grow
    guest hair half hall hand happy harbour hard hat have head health hear heart heat help here hide high
    hill hire holiday home honey hope horse hospital hot hotel hour house how ice idea in info inn inside
    iron island it jacket jazz jeans jewel job juice jump just keep key kid king kitchen knife know lady
    lake lamp land lane large last late laundry law leaf learn leather left lemon less level library life
    lift light lime line lion list little live local lock long look lost loud love low luck lunch magic mail
    main make man map mark market meal meat medical meet melon menu metal metro milk mind mini mint mobile
    modern money month moon more morning most mother motor mount mouth move much museum music must nail name
    near new news next nice night nine no noodle north not note now number nurse ocean of off office oil old
    on once one only open optical or orange order organic original other our out outlet oven over own oxford
    paint pair palace paper park part party pass past pasta pay peace pearl pen people pepper pet pharmacy
    phone photo piano pick picture pink pizza place plan plant plastic plate play please point police pool
    port post power press price print private public pull pump push quality quarter queen quick quiet race
    radio rail rain raw read ready real red rent repair rest rice rich ride right ring river road rock roll
    roof room rose round royal run safe salad sale salon salt same sand sauce save school sea season seat
    second see sell service seven shade share sheet shelf ship shirt shoe shop short show side sign silk
    silver simple since sing six size skin sky sleep slim slow small smart smile smoke snack snow soap social
    soft sold song soon soup south space spa special speed spice sport spring square staff stage star start
    station stay steak step still stone stop store storm street strong student studio style sugar summer sun
    super supply swim table tailor take talk tall tax taxi tea team teeth ten test thai than thank that the
    theatre then there thick thin think this three ticket tie tiger time tiny to today together toilet toll
    tool top tour tower town toy track trade traffic train travel tree trip truck true try turn twelve twenty
    two under union unit until up upper use valley value van very video view village vision visit voice wait
    walk wall want warm warning wash watch water way wear weather wedding week welcome well west wet wheel
    when white who wide wild will wind window wine winter wish with woman wood wool word work world worth
    write yard year yellow yes yoga you young your zero zone zoo January Monday Friday Sunday Singapore
    London Paris Berlin Madrid Tokyo Sydney Chicago Boston Dublin Oslo Robert Maria Smith Johnson Brown
    management accessories restaurant electronics information construction international professional
    development opportunity supermarket photography collection department entertainment technology
    """.split()  # noqa: SIM905
)


def _digits(rng: np.random.Generator, count: int | np.integer) -> str:
    return "".join(str(d) for d in rng.integers(0, 10, count))


def _letters(rng: np.random.Generator, count: int | np.integer) -> str:
    return "".join(string.ascii_uppercase[i] for i in rng.integers(0, 26, count))


def _price(rng: np.random.Generator) -> str:
    cents = ["", ".00", ".50", ".90", ".99"][rng.integers(5)]
    return f"{['$', '', 'S$'][rng.integers(3)]}{rng.integers(1, 200)}{cents}"


def _phone(rng: np.random.Generator) -> str:
    dash = ["-", "", "."][rng.integers(3)]
    return f"{_digits(rng, 4)}{dash}{_digits(rng, 4)}"


def _plate(rng: np.random.Generator) -> str:
    return (
        _letters(rng, rng.integers(2, 4))
        + _digits(rng, rng.integers(2, 5))
        + _letters(rng, rng.integers(0, 2))
    )


def _clock(rng: np.random.Generator) -> str:
    return f"{rng.integers(0, 24)}:{rng.integers(0, 60):02d}{['', 'am', 'pm'][rng.integers(3)]}"


def _unit(rng: np.random.Generator) -> str:
    return (
        f"{_digits(rng, 2)}-{_digits(rng, 2)}"
        if rng.random() < 0.5
        else f"#{_digits(rng, 2)}-{_digits(rng, 3)}"
    )


NUMBERS: tuple[Callable[[np.random.Generator], str], ...] = (
    lambda rng: _digits(rng, rng.integers(1, 5)),
    lambda rng: str(rng.integers(1950, 2030)),
    lambda rng: f"{rng.integers(1, 20) * 5}%",
    lambda rng: f"{rng.integers(1, 30)}{['m', 'km', 'kg', 'L', 'mm'][rng.integers(5)]}",
    lambda rng: f"{_letters(rng, 1)}{rng.integers(1, 100)}",
    lambda rng: _letters(rng, rng.integers(2, 5)),
    _price,
    _phone,
    _plate,
    _clock,
    _unit,
)  # fmt: skip

CASES: tuple[Callable[[str], str], ...] = (str.upper, str.title, str.lower, str)
CASE_ODDS = (0.45, 0.3, 0.1, 0.15)


def line_of_text(rng: np.random.Generator, count: int) -> list[str]:
    """Choose the words and numbers of one line, all in one case.

    Args:
      rng: source of chance.
      count: number of words, at least 1.

    Returns:
      `count` non-empty strings of printable ASCII without spaces.
    """
    case = CASES[rng.choice(len(CASES), p=CASE_ODDS)]
    return [_word(rng, case) for _ in range(count)]


def _word(rng: np.random.Generator, case: Callable[[str], str]) -> str:
    if rng.random() < 0.22:
        return NUMBERS[rng.integers(len(NUMBERS))](rng)
    word = case(WORDS[rng.integers(len(WORDS))])
    return word + "!,.:&"[rng.integers(5)] if rng.random() < 0.04 else word
