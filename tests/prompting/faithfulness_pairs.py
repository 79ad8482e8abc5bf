"""Hand-written prompts with a rewrite each, on general subjects: faithful ones that must pass, broken ones to catch.

The rules were tuned on TUNED. HELD_OUT was written before its results were first seen, and no rule was changed for it.
"""

TUNED_FAITHFUL = [
    ("a cat on a mat", "A fluffy tabby cat curls up contentedly on a soft woven mat, bathed in warm afternoon light."),
    (
        "three dogs playing in a park",
        "Three playful dogs chase each other across the sunlit grass, playing in a leafy city park on a "
        "bright spring morning.",
    ),
    (
        "a red car next to a blue house",
        "A gleaming red car is parked beside a charming blue house with white shutters and a tidy front garden.",
    ),
    (
        "a street without people",
        "A quiet cobblestone street at dawn, with shuttered shops and wet stones, without any people in sight.",
    ),
    (
        'a shop window with a sign that says "OPEN LATE"',
        'A cozy shop window glows at night, and in it a neon sign reads "OPEN LATE" above rows of old books.',
    ),
    (
        "an old man riding a bicycle",
        "An elderly man with a grey beard is riding a rusty bicycle down a narrow country lane at golden hour.",
    ),
    (
        "two cats and a dog",
        "Two sleek cats lounge beside one sleepy dog on a worn wooden porch under soft morning light.",
    ),
    (
        "a lighthouse behind a small boat",
        "A small boat drifts on calm water in the foreground, while a tall lighthouse stands behind the boat "
        "against a pink sky.",
    ),
    ("a woman in red", "An elegant woman wearing a flowing red dress walks through a misty garden at dusk."),
    (
        "a snowy mountain above a lake",
        "A towering mountain covered in snow rises above a mirror-still lake, with pine trees along the shore.",
    ),
    (
        "four green apples in a bowl",
        "A ceramic bowl holds four crisp green apples, photographed on a rustic kitchen counter.",
    ),
    (
        "a dog to the left of a tree",
        "A friendly brown dog sits to the left of a broad oak tree in a meadow full of wildflowers.",
    ),
    (
        "a wooden table",
        "A sturdy wooden table with carved legs stands in a sunlit dining room, dust drifting in the air.",
    ),
    (
        "no clouds in the sky, a desert road",
        "A desert road stretches to the horizon under a brilliant, cloudless sky.",
    ),
    (
        "a black horse running on the beach",
        "A powerful black horse gallops on the beach at sunrise, its mane streaming and sand flying from its hooves.",
    ),
    (
        "a child holding a yellow balloon",
        "A smiling child in a raincoat is holding a bright yellow balloon on an empty pier.",
    ),
    (
        "12 candles on a birthday cake",
        "Twelve flickering candles stand on a chocolate birthday cake, their warm light reflected in nearby glasses.",
    ),
    ("a pair of shoes under a bed", "Two scuffed leather shoes lie under a neatly made bed in a quiet attic room."),
    (
        "a bridge over a river",
        "An arched stone bridge crosses over a winding river, with autumn leaves floating on the water.",
    ),
    (
        "a kitchen with no windows",
        "A compact modern kitchen with no windows, lit by hanging copper lamps and a glowing oven.",
    ),
    (
        "a bird that is not flying",
        "A small bird that is not flying rests on a bare branch, feathers puffed against the cold.",
    ),
    (
        "a blue-eyed cat",
        "A white cat with piercing blue eyes looks straight into the camera, soft studio light on its fur.",
    ),
    (
        "A cup of coffee and a croissant",
        "A steaming cup of coffee stands beside a golden croissant on a marble cafe table, morning light "
        "falling through the window.",
    ),
    (
        "a small red ball and a big blue ball",
        "A small red ball rests in the grass, and a big blue ball lies a little farther off, both wet with dew.",
    ),
    (
        "a cat sleeping on the left and a dog on the right",
        "On the left, a ginger cat is sleeping on a cushion; on the right, a dog waits patiently by the door.",
    ),
    (
        "a guitar leaning against a wall",
        "A worn acoustic guitar is leaning against a brick wall in a dim rehearsal room.",
    ),
    (
        "a knight fighting a dragon",
        "In the courtyard of a ruined keep, a lone knight in battered armor is fighting a huge dragon, sparks"
        " and embers swirling in the smoky air, dramatic rim lighting, epic fantasy art.",
    ),
    (
        "a corgi wearing sunglasses",
        "A cheerful corgi wearing oversized sunglasses lounges on a striped beach towel, palm shadows falling"
        " across the sand, vivid summer colors.",
    ),
    (
        "seven penguins on an iceberg",
        "Seven penguins huddle together on a drifting iceberg, turquoise water lapping at its edges beneath a"
        " low polar sun.",
    ),
    (
        "a steaming bowl of ramen with two eggs",
        "A steaming bowl of ramen topped with two eggs, glossy noodles, sliced scallions and nori, set on a "
        "dark wooden counter in a narrow Tokyo bar.",
    ),
    (
        "a train crossing a bridge in the rain",
        "A long silver train is crossing a steel bridge in the rain, its headlights blurred, droplets "
        "streaking the lens.",
    ),
    (
        "a portrait of a woman with no makeup",
        "A close portrait of a woman with no makeup, natural skin texture, soft overcast daylight, calm and "
        "direct gaze.",
    ),
    (
        "a purple umbrella under a yellow umbrella",
        "A purple umbrella lies open under a larger yellow umbrella on a wet pavement, raindrops shining on both.",
    ),
    (
        "a book on top of a laptop",
        "An old leather book rests on top of a slim laptop on a tidy desk, a fern and a cup of tea in the "
        "blurred background.",
    ),
    (
        "a plate of spaghetti without meatballs",
        "A generous plate of spaghetti in bright tomato sauce, without meatballs, finished with basil and "
        "grated cheese.",
    ),
    (
        "a green frog sitting on a lily pad",
        "A bright green frog is sitting on a broad lily pad, ripples spreading through dark pond water around it.",
    ),
    (
        "the Eiffel Tower at night",
        "The Eiffel Tower at night, its iron lattice glittering with thousands of golden lights above the dark Seine.",
    ),
    (
        "a teddy bear and a toy truck on a shelf",
        "A worn teddy bear and a bright toy truck sit side by side on a shelf in a quiet nursery, dust motes "
        "drifting in the light.",
    ),
    (
        "a farmer and his two sons",
        "A weathered farmer and his two sons stand together at the gate of a wheat field, squinting in low "
        "evening sun.",
    ),
    (
        "a square clock on a round table",
        "A square clock with brass hands stands on a round table in an empty parlor, pale light from tall windows.",
    ),
    (
        "a red fox jumping over a fence",
        "Caught in mid-leap, a red fox is jumping over a wooden fence, frost glittering in the grass below.",
    ),
    (
        "twenty-one roses in a black vase",
        "Twenty-one roses fill a black vase on a white pedestal, petals velvety under soft studio light.",
    ),
    (
        "a cabin in the woods, no snow",
        "A small log cabin in the woods in late autumn, no snow on the ground, smoke curling from its chimney.",
    ),
    (
        "an owl perched on a branch next to its chick",
        "A great grey owl perched on a mossy branch next to its chick, both staring forward with bright amber eyes.",
    ),
    (
        "a cyclist passing a parked bus",
        "A cyclist in a blue jersey is passing a parked bus on a narrow city street, motion blur in the wheels.",
    ),
    (
        "a man feeding pigeons",
        "An old man in a long coat is feeding pigeons in a quiet square, breadcrumbs scattered around his shoes.",
    ),
    (
        "two lamps, one tall and one short",
        "Two lamps, one tall and one short, stand on a walnut sideboard, casting warm overlapping pools of light.",
    ),
    (
        "a watercolor of a lighthouse",
        "A delicate watercolor of a lighthouse on a rocky headland, loose washes of blue and grey, gulls in the wind.",
    ),
    (
        "a boy kicking a ball toward a goal",
        "A boy in a muddy jersey is kicking a ball toward a goal on a foggy village pitch.",
    ),
    ("a room full of mirrors", "A dim room full of mirrors, endless reflections multiplying a single candle flame."),
    (
        "neon sign reading 'No Vacancy'",
        "A buzzing neon sign reading 'No Vacancy' glows pink against the dusk outside a roadside motel.",
    ),
    (
        "a girl in a yellow raincoat holding a blue umbrella",
        "A girl in a yellow raincoat stands on a flooded street, holding a blue umbrella above her head, "
        "reflections rippling.",
    ),
    ("a chef without a hat", "A focused chef without a hat leans over a steaming pan in a stainless steel kitchen."),
    (
        "a tractor behind a barn",
        "Behind a weathered barn, a rusty tractor stands in tall grass, late sun on its faded paint.",
    ),
]

TUNED_BROKEN = [
    ("three dogs playing in a park", "Two playful dogs chase a ball across the sunlit grass of a leafy city park."),
    (
        "a red car next to a blue house",
        "A gleaming blue car is parked beside a charming red house with white shutters.",
    ),
    ("a red car next to a blue house", "A gleaming red car is parked beside a charming house with white shutters."),
    ("a street without people", "A lively cobblestone street at noon, full of people walking between the shops."),
    ("a street without people", "A quiet cobblestone street at dawn with shuttered shops and wet stones."),
    ('a sign that says "OPEN LATE"', 'A neon sign reads "OPEN" above rows of old books in a shop window.'),
    ('a sign that says "OPEN LATE"', 'A neon sign reads "Open Late" above rows of old books in a shop window.'),
    ("an old man riding a bicycle", "A young man is riding a rusty bicycle down a narrow country lane."),
    ("two cats and a dog", "One sleek cat lounges beside two sleepy dogs on a worn wooden porch."),
    ("two cats and a dog", "Two sleek cats lounge on a worn wooden porch under soft morning light."),
    ("a cat on a mat", "A fluffy cat hides under a soft woven mat in the afternoon light."),
    ("a dog to the left of a tree", "A friendly brown dog sits to the right of a broad oak tree in a meadow."),
    ("a dog chasing a cat", "A nimble cat is chasing a frightened dog through a garden full of roses."),
    ("a woman in red", "An elegant woman wearing a flowing green dress walks through a misty garden at dusk."),
    ("four green apples in a bowl", "A ceramic bowl of crisp green pears stands on a rustic kitchen counter."),
    ("four green apples in a bowl", "A ceramic bowl holds four crisp red apples on a rustic kitchen counter."),
    ("a black horse running on the beach", "A powerful white horse is running on the beach at sunrise."),
    (
        "a child holding a yellow balloon",
        "A smiling child in a yellow raincoat is holding a bright balloon on a pier.",
    ),
    ("12 candles on a birthday cake", "Ten flickering candles stand on a chocolate birthday cake."),
    ("a kitchen with no windows", "A bright modern kitchen with tall windows, lit by hanging copper lamps."),
    ("a bird that is not flying", "A small bird is flying over a frosty field, wings spread wide."),
    ("a lighthouse behind a small boat", "A tall lighthouse stands in front of a small boat drifting on calm water."),
    ("a small red ball and a big blue ball", "A big red ball rests in the grass beside a small blue ball."),
    ("a cat sleeping on the left and a dog on the right", "On the right a cat is sleeping; on the left, a dog waits."),
    (
        "a man with a hat and a woman with a scarf",
        "A man with a scarf stands beside a woman with a hat on a cold platform.",
    ),
    ("a single rose in a vase", "A bouquet of red roses stands in a tall glass vase by the window."),
    ("a horse standing in a field", "A chestnut horse is lying in a wide field of tall grass at noon."),
    ("two cups on a table", "Two cups stand on a table, and a third cup waits on the shelf above."),
    (
        "a knight fighting a dragon",
        "A lone knight in battered armor rides through a ruined keep, embers swirling in the smoky air.",
    ),
    ("a corgi wearing sunglasses", "A cheerful corgi lounges on a striped beach towel in the sand."),
    (
        "seven penguins on an iceberg",
        "A colony of penguins huddles together on a drifting iceberg beneath a low polar sun.",
    ),
    (
        "a steaming bowl of ramen with two eggs",
        "A steaming bowl of ramen topped with an egg, glossy noodles and nori.",
    ),
    ("a train crossing a bridge in the rain", "A long silver train is crossing a steel bridge under a clear sky."),
    (
        "a purple umbrella under a yellow umbrella",
        "A yellow umbrella lies open under a larger purple umbrella on a wet pavement.",
    ),
    ("a book on top of a laptop", "A slim laptop rests on top of an old leather book on a tidy desk."),
    ("a plate of spaghetti without meatballs", "A generous plate of spaghetti with meatballs in bright tomato sauce."),
    ("a green frog sitting on a lily pad", "A bright green frog dives beneath a broad lily pad in dark water."),
    ("a farmer and his two sons", "A weathered farmer and his three sons stand at the gate of a wheat field."),
    ("a square clock on a round table", "A round clock with brass hands stands on a square table in an empty parlor."),
    ("twenty-one roses in a black vase", "Twenty roses fill a black vase on a white pedestal."),
    ("a cabin in the woods, no snow", "A small log cabin in the woods, its roof thick with fresh snow."),
    ("two lamps, one tall and one short", "Two tall lamps stand on a walnut sideboard, casting warm light."),
    ("a watercolor of a lighthouse", "A photograph of a lighthouse on a rocky headland, gulls in the wind."),
    ("neon sign reading 'No Vacancy'", "A buzzing neon sign reading 'Vacancy' glows pink outside a roadside motel."),
    (
        "a girl in a yellow raincoat holding a blue umbrella",
        "A girl in a blue raincoat stands on a flooded street, holding a yellow umbrella.",
    ),
    ("a chef without a hat", "A focused chef in a tall white hat leans over a steaming pan."),
    ("a tractor behind a barn", "A rusty tractor stands in front of a weathered barn in tall grass."),
    ("an empty road, no cars", "An empty road with a single car speeding toward the horizon."),
    ("a man feeding pigeons", "An old man in a long coat is chasing pigeons in a quiet square."),
    ("a cat and two kittens", "A cat and three kittens sleep in a laundry basket."),
    ("a tall man and a short woman", "A short man and a tall woman wait at a bus stop in the rain."),
    ("a bride not smiling", "A bride is smiling in a sunlit garden, petals on her veil."),
]

HELD_OUT_FAITHFUL = [
    (
        "a panda eating bamboo",
        "A plump panda sits in a misty forest clearing, eating fresh bamboo shoots, its black and white fur "
        "dappled by light.",
    ),
    (
        "five balloons in the sky",
        "Five brightly colored balloons float high in the clear blue sky above rolling farmland.",
    ),
    (
        "a white cat looking out of a window",
        "A graceful white cat sits on a wide sill, looking out of a rain-streaked window at the grey street below.",
    ),
    (
        "an astronaut riding a horse on the moon",
        "An astronaut in a dusty white suit is riding a horse on the moon, the Earth glowing blue in the black sky.",
    ),
    (
        "a pizza with no olives",
        "A freshly baked pizza with bubbling mozzarella and basil leaves, no olives, served on a wooden board.",
    ),
    (
        'a t-shirt with the words "Hello World" on it',
        'A plain grey t-shirt hangs on a line, the words "Hello World" printed across it in bold white letters.',
    ),
    (
        "a castle on a hill at sunset",
        "A medieval castle with tall towers stands on a grassy hill at sunset, its walls glowing orange in "
        "the last light.",
    ),
    (
        "two children building a sandcastle",
        "Two children in sun hats kneel on a wide beach, building an elaborate sandcastle with towers and a moat.",
    ),
    (
        "a black cat between two white chairs",
        "A sleek black cat sits between two white chairs in a bare, sunlit room with a wooden floor.",
    ),
    (
        "an empty bench under a tree",
        "An empty bench stands under a spreading chestnut tree, golden leaves scattered around its iron legs.",
    ),
    (
        "a robot painting a picture",
        "A slender silver robot stands before an easel, painting a picture of a mountain lake with careful strokes.",
    ),
    (
        "a green bottle and three glasses on a tray",
        "A green bottle and three glasses stand on a silver tray, lit by candlelight in a dim restaurant.",
    ),
    (
        "a fox not wearing a collar",
        "A wild red fox, not wearing a collar, pauses at the edge of a snowy wood and listens.",
    ),
    (
        "oil painting of a ship in a storm",
        "An oil painting of a wooden ship tossed in a violent storm, dark waves breaking over its bow.",
    ),
    (
        "a girl with blond hair and green eyes",
        "A portrait of a girl with long blond hair and bright green eyes, freckles across her nose, soft window light.",
    ),
    (
        "a bicycle in front of a red door",
        "A vintage bicycle with a wicker basket is parked in front of a red door in a narrow Italian lane.",
    ),
    ("a dozen eggs in a basket", "A woven basket filled with a dozen speckled eggs rests on straw in a rustic barn."),
    (
        "a glass table without chairs",
        "A sleek glass table stands alone in an airy white loft, without chairs, city lights beyond the panes.",
    ),
    (
        "a fisherman in a boat near the shore",
        "An old fisherman sits in a small wooden boat near the shore, mending his net as gulls circle overhead.",
    ),
    (
        "a huge spider above a tiny house",
        "A huge spider hangs above a tiny house, its legs casting long shadows over the moonlit roof.",
    ),
]

HELD_OUT_BROKEN = [
    ("a panda eating bamboo", "A plump panda sits in a misty forest clearing, its fur dappled by soft morning light."),
    (
        "five balloons in the sky",
        "Six brightly colored balloons float high in the clear blue sky above rolling farmland.",
    ),
    ("a white cat looking out of a window", "A graceful black cat is looking out of a rain-streaked window at dusk."),
    (
        "an astronaut riding a horse on the moon",
        "A horse is riding an astronaut on the moon, the Earth glowing behind.",
    ),
    ("a pizza with no olives", "A freshly baked pizza with bubbling mozzarella, basil leaves and black olives."),
    (
        'a t-shirt with the words "Hello World" on it',
        "A plain grey t-shirt hangs on a line, bold white letters printed on it.",
    ),
    ("a castle on a hill at sunset", "A medieval castle with tall towers stands at sunset, its walls glowing orange."),
    (
        "two children building a sandcastle",
        "A child in a sun hat kneels on a wide beach, building an elaborate sandcastle.",
    ),
    (
        "a black cat between two white chairs",
        "A sleek white cat sits between two black chairs in a bare, sunlit room.",
    ),
    (
        "an empty bench under a tree",
        "An empty bench stands beside a pond under grey skies, leaves scattered around it.",
    ),
    (
        "a robot painting a picture",
        "A slender silver robot stands in a bright gallery, admiring the works of old masters.",
    ),
    (
        "a green bottle and three glasses on a tray",
        "Three green bottles and a glass stand on a silver tray by candlelight.",
    ),
    ("a fox not wearing a collar", "A red fox wearing a leather collar pauses at the edge of a snowy wood."),
    (
        "a girl with blond hair and green eyes",
        "A portrait of a girl with long green hair and blond eyebrows, blue eyes.",
    ),
    ("a bicycle in front of a red door", "A vintage bicycle stands behind a red door in a narrow Italian lane."),
    ("a dozen eggs in a basket", "A woven basket with ten speckled eggs rests on straw in a rustic barn."),
    ("a glass table without chairs", "A sleek glass table with six leather chairs stands in an airy white loft."),
    ("a fisherman in a boat near the shore", "An old fisherman stands on the shore, mending his net as gulls circle."),
    ("a huge spider above a tiny house", "A tiny spider hangs above a huge house, its legs casting long shadows."),
    ("a red apple on a green book", "A green apple rests on a red book beside a brass reading lamp."),
    ("a dog and no cat", "A dog and a cat nap together on a striped rug by the fire."),
    ("a blue bird on a branch", "A blue bird, wings wide, sings beneath a branch heavy with blossoms."),
]
