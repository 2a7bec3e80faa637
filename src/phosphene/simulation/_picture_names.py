"""Which emoji are pictures of an object, and what the object is called.

The names that Unicode gives are made for fonts ("black sun with rays", "face savouring delicious
food"), and many pictures differ by gender, skin, direction or hour only. The rules here leave one
picture per concept, with the name that a person would give it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WHOLE_GROUPS = {
    "Animals & Nature": "animal-mammal animal-bird animal-amphibian animal-reptile animal-marine "
    "animal-bug plant-flower plant-other",
    "Food & Drink": "food-fruit food-vegetable food-prepared food-asian food-marine food-sweet "
    "drink dishware",
    "Travel & Places": "place-map place-geographic place-building place-religious place-other "
    "transport-ground transport-water transport-air hotel time",
    "Activities": "event award-medal sport game",
    "Objects": "clothing sound music musical-instrument phone computer book-paper money mail "
    "writing office lock tool science medical household other-object",
}
"""Groups of which every picture is taken but those in LEFT_OUT (or named alike)."""

WHOLE_SUBGROUPS = {"sky & weather", "arts & crafts", "light & video", "body-parts"}

SINGLE = _words(
    """
    wave ok_hand pinching_hand v crossed_fingers spock-hand the_horns call_me_hand point_up +1 fist
    clap raised_hands heart_hands handshake pray writing_hand nail_care selfie palms_up_together
    baby child man woman man_with_beard older_man older_woman red_haired_woman bald_man
    health_worker student teacher judge farmer cook mechanic factory_worker office_worker scientist
    technologist singer artist pilot astronaut firefighter cop sleuth_or_spy guardsman ninja
    construction_worker person_with_crown princess man_with_turban person_with_headscarf
    person_in_tuxedo bride_with_veil pregnant_woman person_feeding_baby
    angel santa superhero supervillain mage fairy vampire mermaid elf genie zombie troll
    massage haircut walking kneeling_person person_with_probing_cane person_in_manual_wheelchair
    runner dancer dancers man_in_business_suit_levitating person_in_steamy_room person_climbing
    fencer horse_racing skier snowboarder golfer surfer rowboat swimmer person_with_ball
    weight_lifter bicyclist person_doing_cartwheel wrestlers water_polo handball juggling
    person_in_lotus_position bath sleeping_accommodation footprints couple_with_heart
    skull clown_face japanese_ogre japanese_goblin ghost alien space_invader robot_face
    love_letter heart broken_heart kiss boom hole thought_balloon
    checkered_flag triangular_flag_on_post pirate_flag crossed_flags
    """
)
"""Pictures taken from groups that are mostly variants of each other."""

LEFT_OUT = _words(
    """
    monkey_face dog cat tiger horse cow pig mouse rabbit dragon_face service_dog hatched_chick
    whale phoenix white_flower shamrock fallen_leaf wilted_flower feet beers knife_fork_plate
    earth_americas earth_asia globe_with_meridians love_hotel european_post_office foggy
    city_sunset sunrise oncoming_bus oncoming_police_car oncoming_taxi oncoming_automobile
    bullettrain_front traffic_light train2 airplane_departure airplane_arriving minibus
    hourglass_flowing_sand clock12 clock1230 clock1 clock130 clock2 clock230 clock3 clock330 clock4
    clock430 clock5 clock530 clock6 clock630 clock7 clock730 clock8 clock830 clock9 clock930
    clock1030 clock11 clock1130
    new_moon waxing_crescent_moon moon waning_gibbous_moon last_quarter_moon waning_crescent_moon
    new_moon_with_face first_quarter_moon_with_face last_quarter_moon_with_face full_moon_with_face
    mostly_sunny barely_sunny umbrella_with_rain_drops snowman_without_snow thunder_cloud_and_rain
    fog reminder_ribbon second_place_medal third_place_medal spades hearts diamonds clubs
    mute sound loud_sound no_bell notes calling low_battery dvd mag_right camera_with_flash
    green_book blue_book orange_book notebook_with_decorative_cover page_facing_up yen euro pound
    chart e-mail incoming_envelope envelope_with_arrow outbox_tray mailbox_closed mailbox_with_mail
    mailbox_with_no_mail open_file_folder calendar spiral_calendar_pad chart_with_downwards_trend
    round_pushpin linked_paperclips closed_lock_with_key lock_with_ink_pen link hammer_and_wrench
    eyes ear_with_hearing_aid railway_car shaved_ice broken_chain national_park train
    night_with_stars umbrella_on_ground black_nib sports_medal
    """
)
"""Pictures that repeat another one, or show a sign rather than a thing."""

NAMES = dict(
    line.strip().split(": ")
    for line in """
    8ball: billiard ball
    alien: alien
    angel: cherub
    badminton_racquet_and_shuttlecock: badminton racket
    bald_man: bald man
    bamboo: bamboo decoration
    bank: bank building
    basketball: basketball
    bath: person in bathtub
    beach_with_umbrella: beach
    beer: mug of beer
    bird: small bird
    black_bird: blackbird
    black_joker: joker card
    blowfish: pufferfish
    blue_car: blue van
    boom: explosion
    boot: women's boot
    bowling: bowling ball and pins
    bricks: bricks
    bride_with_veil: bride
    bug: caterpillar
    building_construction: construction site
    bulb: light bulb
    cake: slice of cake
    call_me_hand: shaka hand
    camping: campsite
    car: car
    cd: compact disc
    champagne: champagne bottle
    chart_with_upwards_trend: line chart
    clapper: clapperboard
    clock10: wall clock
    coffee: cup of coffee
    computer: laptop
    construction: road barrier
    corn: ear of corn
    cricket_bat_and_ball: cricket bat
    crossed_fingers: crossed fingers
    dancer: dancing woman
    dancers: women with bunny ears
    dart: dartboard
    deciduous_tree: leafy tree
    dna: dna helix
    dollar: banknote
    dromedary_camel: dromedary
    earth_africa: globe
    eggplant: eggplant
    european_castle: castle
    field_hockey_stick_and_ball: field hockey stick
    file_cabinet: filing cabinet
    first_place_medal: gold medal
    first_quarter_moon: half moon
    fish_cake: fish cake
    fishing_pole_and_fish: fishing rod
    flashlight: flashlight
    flower_playing_cards: hanafuda card
    fried_egg: frying pan with egg
    funeral_urn: urn
    game_die: dice
    gem: gemstone
    gift: wrapped gift
    golf: golf hole
    golfer: golfer
    guardsman: royal guard
    gun: water pistol
    hammer_and_pick: hammer and pickaxe
    handball: handball player
    heart: red heart
    heart_hands: heart-shaped hands
    helmet_with_white_cross: rescue helmet
    herb: herb sprig
    hocho: kitchen knife
    horse_racing: jockey
    hot_pepper: chili pepper
    hotsprings: hot spring
    house: house
    house_buildings: row of houses
    ice_cream: ice cream sundae
    ice_hockey_stick_and_puck: hockey stick and puck
    icecream: ice cream cone
    izakaya_lantern: paper lantern
    japan: map of japan
    japanese_goblin: red goblin mask
    japanese_ogre: ogre mask
    jigsaw: puzzle piece
    juggling: juggler
    keyboard: computer keyboard
    kiss: lipstick kiss
    knot: knotted rope
    label: price tag
    lacrosse: lacrosse stick
    ladybug: ladybird
    leafy_green: lettuce
    leaves: green leaves
    level_slider: slider control
    lightning: thundercloud
    lock: padlock
    loudspeaker: public loudspeaker
    lower_left_ballpoint_pen: ballpoint pen
    mag: magnifying glass
    mage: wizard
    mahjong: mahjong tile
    mailbox: mailbox
    man_in_business_suit_levitating: man in suit hovering
    man_with_beard: bearded man
    mans_shoe: men's shoe
    massage: head massage
    mega: megaphone
    memo: notepad with pencil
    metro: subway train
    microphone: hand microphone
    moneybag: bag of money
    moyai: easter island statue
    nail_care: painting nails
    octagonal_sign: stop sign
    page_with_curl: sheet of paper
    performing_arts: theatre masks
    person_climbing: climber
    person_doing_cartwheel: cartwheel
    person_feeding_baby: person feeding a baby
    person_in_lotus_position: meditating person
    person_in_manual_wheelchair: person in wheelchair
    person_in_steamy_room: person in sauna
    person_in_tuxedo: person in tuxedo
    person_with_ball: basketball player
    person_with_crown: king
    person_with_headscarf: woman with headscarf
    phone: telephone
    pick: pickaxe
    point_up: pointing finger
    post_office: post office
    postal_horn: post horn
    pouch: clutch purse
    pray: folded hands
    probing_cane: white cane
    purse: coin purse
    rain_cloud: rain cloud
    raised_hands: raised hands
    ramen: bowl of ramen
    red_envelope: red envelope
    red_haired_woman: red-haired woman
    rice: bowl of rice
    rice_scene: moon viewing
    rotating_light: police light
    rowboat: rower
    running_shirt_with_sash: running shirt
    sandal: women's sandal
    santa: santa claus
    satellite_antenna: satellite dish
    school_satchel: school backpack
    scissors: scissors
    seat: airplane seat
    shallow_pan_of_food: pan of food
    shell: seashell
    shopping_trolley: shopping cart
    sleeping_accommodation: person in bed
    small_airplane: propeller plane
    smoking: cigarette
    snow_cloud: snow cloud
    space_invader: pixel monster
    speaker: loudspeaker cone
    spock-hand: vulcan salute
    star: star
    station: railway station
    stew: pot of stew
    sun_with_face: sun with face
    sunny: sun
    table_tennis_paddle_and_ball: table tennis bat
    tanabata_tree: wish tree
    tea: bowl of green tea
    tennis: tennis ball
    the_horns: horns hand sign
    thong_sandal: flip-flop
    triangular_flag_on_post: red pennant
    unlock: open padlock
    vertical_traffic_light: traffic light
    walking: walking person
    water_polo: water polo player
    wedding: wedding chapel
    weight_lifter: weight lifter
    wind_blowing_face: wind face
    womans_clothes: blouse
    womans_hat: sun hat
    wood: logs
    x-ray: x-ray image
    zap: lightning bolt
    """.strip().splitlines()
)
"""Names where Unicode's would mislead."""

_ENDINGS = (" face", " symbol", " sign")


def choose(metadata: Path, svg_folder: Path) -> list[tuple[str, str]]:
    """Named pictures as (concept, stem of the SVG file), sorted by concept.

    Parameters
    ----------
    metadata : Path
        The ``emoji.json`` of emoji-data.
    svg_folder : Path
        Folder of Twemoji's SVG files.
    """
    stems = {path.stem for path in svg_folder.glob("*.svg")}
    chosen: dict[str, str] = {}
    for entry in sorted(json.loads(metadata.read_text("utf-8")), key=lambda e: e["sort_order"]):
        if not _is_object(entry):
            continue
        stem = next((s for s in _stems(entry["unified"]) if s in stems), None)
        if stem is not None:
            chosen.setdefault(concept_name(entry), stem)
    return sorted(chosen.items())


def concept_name(entry: dict[str, Any]) -> str:
    """What the object is called."""
    if (short := entry["short_name"]) in NAMES:
        return NAMES[short]
    name = str(entry["name"]).lower()
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


def _is_object(entry: dict[str, Any]) -> bool:
    short, group = entry["short_name"], entry["subcategory"]
    if short in LEFT_OUT:
        return False
    whole = group in WHOLE_GROUPS.get(entry["category"], "").split() or group in WHOLE_SUBGROUPS
    return whole or short in SINGLE


def _stems(unified: str) -> tuple[str, str]:
    parts = [part.lstrip("0") for part in unified.lower().split("-")]
    return "-".join(parts), "-".join(part for part in parts if part != "fe0f")
