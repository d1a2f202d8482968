"""The words of the simulated shop search (:mod:`features.ingest.simulated_search`): what it sells, and how it is asked
for.

    KINDS["couch"].asked                 # ("sofa", "settee", "something soft to sit on together")
    TRAITS["foldable"]                 # ("folding", "that packs flat")

Titles have a thing's own name. People ask for it by that, or by other words, none of which is in the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is sold."""

    name: str
    asked: tuple[str, ...]
    """Other words for it; no word of the name is in them."""
    department: str


def _listed(text: str) -> dict[str, tuple[str, ...]]:
    """Entries ``name: one, another``, a line each or with semicolons between."""
    pairs = (entry.strip().split(": ") for line in text.split("\n") if line.strip() for entry in line.split(";"))
    return {name: tuple(words.split(", ")) for name, words in pairs}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STOCK = {
    "furniture": """
        couch: sofa, settee, something soft to sit on together; armchair: easy seat, lounge seat by the fire
        bookcase: shelves, unit to store novels; wardrobe: closet, clothes cupboard
        sideboard: credenza, low dining room cabinet; nightstand: bedside table, little drawer next to the bed
        desk: writing table, place to work at home; stool: backless seat, perch at the bar
        dresser: chest of drawers, bureau; mattress: foam to sleep on, bed pad
        coat rack: hanger stand for jackets, hallway hooks; ottoman: footrest, pouffe
        bunk bed: two sleepers above each other, sleeping place with ladder; cot: crib, baby bed
        dining table: family meal board, kitchen eating surface; headboard: padded panel behind a bed
    """,
    "kitchen": """
        kettle: water boiler, jug to heat water for tea; frying pan: skillet, something to cook eggs in
        saucepan: cooking pot, pot with a long handle; cutting board: chopping block, surface to slice bread on
        whisk: egg beater, hand mixer; colander: pasta strainer, sieve
        chef knife: sharp blade for cooking, cook's cutting tool; cutlery: silverware, forks and spoons
        mug: coffee cup, large tea cup; toaster: bread browner, machine for crisp slices
        blender: smoothie maker, liquidiser; refrigerator: fridge, icebox
        dishwasher: machine that cleans plates; oven glove: heat mitt, hand protection for hot trays
        corkscrew: wine opener, bottle opener; lunch box: food container, bento
        thermos: vacuum flask, bottle that keeps coffee hot; apron: cooking pinafore, cover for the clothes of a cook
        kitchen scale: food balance, device to weigh flour; teapot: vessel to brew leaves
    """,
    "electronics": """
        smartphone: cell phone, mobile, handset; laptop: notebook computer, portable pc
        headphones: earphones, headset, cans to listen to music; television: tv, flat screen for the living room
        loudspeaker: bluetooth speaker, music box; charger: power adapter, plug to load a phone
        power bank: spare battery, portable energy for a phone; monitor: computer screen, display
        keyboard: typing board, keys for a computer; printer: machine to put documents on paper
        camera: photo device, something to take pictures with; projector: beamer, home cinema lamp
        router: wifi box, wireless internet station; tablet computer: ipad, slate with a touch screen
        smartwatch: fitness tracker, wearable for the wrist; microphone: mic, voice recorder for podcasts
        hard drive: external storage, disk for backups; game console: playstation, video gaming machine
        e reader: kindle, electronic book device; drone: quadcopter, flying camera
    """,
    "clothing": """
        rain coat: waterproof jacket, anorak; pullover: sweater, jumper, warm knitted top
        trousers: pants, slacks; jeans: denim pants
        t shirt: tee, short sleeve top; dressing gown: bathrobe, house robe
        swimsuit: bathing costume, bikini; tights: pantyhose, stockings
        waistcoat: vest, sleeveless suit top; scarf: neck wrap, shawl
        beanie: woollen hat, winter cap; mittens: gloves, hand warmers
        pyjamas: sleepwear, nightclothes; tuxedo: dinner jacket, black tie suit
        hoodie: hooded sweatshirt, zip fleece; belt: leather strap, waistband
        blouse: elegant top for women, ladies' shirt; underpants: briefs, boxers
        overalls: dungarees, work suit; cardigan: buttoned knitwear
    """,
    "shoes": """
        sneakers: trainers, gym shoes; hiking boots: walking footwear, shoes for the mountains
        slippers: house shoes, warm indoor footwear; sandals: open summer shoes, flip flops
        high heels: stilettos, pumps for a party; wellingtons: rubber boots, gumboots
        loafers: slip ons, moccasins; running shoes: joggers, marathon trainers
        football cleats: soccer boots, studs; ballet flats: dance pumps, dolly shoes
        snow boots: winter footwear, lined shoes for ice; insoles: footbed, inserts against sore feet
    """,
    "outdoor": """
        tent: camping shelter, canvas home for the night; rucksack: backpack, hiking bag
        sleeping bag: camping quilt, down cocoon; flashlight: torch, hand lamp for the dark
        cooler: ice chest, box that keeps drinks cold; camping stove: gas burner, trekking cooker
        binoculars: field glasses, optics to watch birds; hammock: hanging bed, swing between trees
        water bottle: drinking flask, canteen; compass: direction finder, navigation needle
        pocket knife: penknife, folding blade; fishing rod: angling pole, tackle for trout
        canoe: paddle boat, kayak; climbing rope: mountaineering line, safety cord
        walking poles: trekking sticks, nordic staffs; head lamp: light for the forehead
    """,
    "garden": """
        lawn mower: grass cutter, machine to trim the yard; wheelbarrow: garden cart, pushcart
        watering can: sprinkler jug, plant shower; hosepipe: water tube, flexible line for the yard
        secateurs: pruning shears, clippers for roses; spade: shovel, digging tool
        parasol: sun umbrella, patio shade; barbecue: grill, charcoal cooker
        flower pot: planter, container for plants; greenhouse: glasshouse, shelter for tomatoes
        compost bin: container for rotting scraps; bird feeder: seed station for sparrows
        garden bench: outdoor seat, park settee; leaf blower: machine against autumn foliage
        hedge trimmer: bush cutter, electric shears; rake: tool to gather leaves
        fertiliser: plant food, manure; trellis: support for climbing plants
    """,
    "tools": """
        drill: boring machine, something to make holes in a wall; spanner: wrench, tool to turn nuts
        screwdriver: tool to drive screws; hammer: mallet, tool for nails
        saw: wood cutter, blade for planks; pliers: pincers, gripping tool
        tape measure: ruler that rolls up, length meter; spirit level: bubble gauge, tool to check if it is straight
        ladder: steps, something to climb to the ceiling; toolbox: case for hand tools, workshop chest
        sandpaper: abrasive sheets, grit for smoothing; paint roller: wall brush, decorating applicator
        glue gun: hot adhesive applicator; safety goggles: protective glasses, eye protection
        padlock: hanging lock, shackle with key; extension cord: longer power cable, mains lead
        work light: lamp for a building site; staple gun: tacker
    """,
    "home": """
        duvet: quilt, comforter; pillow: head cushion, headrest for sleeping
        curtains: drapes, window hangings; rug: carpet, floor mat
        table lamp: reading light, bedside light; ceiling light: pendant, chandelier
        candle: wax light, tealights; picture frame: photo holder, border for a print
        mirror: looking glass, vanity; vase: flower holder, jar for tulips
        towel: bath sheet, cloth to dry off; shower curtain: bath screen, splash guard
        laundry basket: washing hamper, dirty clothes bin; ironing board: folding table to press shirts
        vacuum cleaner: hoover, dust sucker; broom: sweeper, floor brush
        trash can: waste bin, garbage pail; alarm clock: wake up timer, bedside time display
        blanket: throw, warm cover; fan: air circulator, something against summer heat
        heater: radiator, device to warm a room; dehumidifier: moisture absorber, machine against damp
    """,
    "children": """
        pram: baby carriage, stroller, pushchair; pacifier: dummy, soother
        diapers: nappies, pampers; high chair: feeding seat, toddler's place at meals
        car seat: child safety chair for driving; teddy bear: plush animal, cuddly toy
        jigsaw: puzzle, picture in a thousand pieces; building blocks: lego, construction bricks
        doll house: miniature home for figures; board game: family evening at the table, monopoly
        scooter: kick board, two wheels for school; trampoline: jumping bed, bouncer
        crayons: wax colouring pencils, drawing sticks; toy train: model railway, wooden locomotive
        baby monitor: nursery intercom, night listening device; bib: feeding cloth, dribble catcher
        school bag: satchel, first grader's backpack; kite: flying toy for windy days
    """,
    "sport": """
        dumbbells: hand weights, free weights; yoga mat: exercise pad, pilates underlay
        treadmill: running machine, indoor jogging band; exercise bike: stationary cycle, home trainer
        bicycle: city bike, pushbike; bike helmet: cycling head protection
        tennis racket: bat for lawn sports; skipping rope: jump cord
        football: soccer ball; swimming goggles: pool glasses, eyewear for laps
        skis: alpine boards, planks for snow; ice skates: blades for a frozen lake
        golf clubs: irons and drivers; boxing gloves: sparring mitts, punching gear
        surfboard: wave rider, plank for the ocean; table tennis set: ping pong kit
        basketball hoop: ring to shoot at, net for the driveway; foam roller: massage tube for muscles
    """,
    "beauty": """
        shampoo: hair wash, hair soap; moisturiser: face cream, lotion for dry skin
        lipstick: lip colour, rouge; perfume: fragrance, eau de toilette
        razor: shaver, blade for the beard; hair dryer: blow drier, something for wet curls
        sunscreen: sun lotion, spf cream; toothbrush: dental brush, something to clean teeth
        nail polish: varnish for fingers, manicure colour; deodorant: antiperspirant, armpit spray
        hairbrush: comb, detangler; tweezers: eyebrow plucker
        bath salts: crystals for the tub, soak; mascara: lash colour, eye makeup
        hair straightener: flat iron; makeup bag: cosmetics pouch, toiletry case
        hand cream: balm for rough fingers; electric trimmer: beard clippers, hair cutting machine
    """,
    "office": """
        fountain pen: ink writer, nib for calligraphy; stapler: paper fastener
        notebook: writing journal, jotter; ring binder: folder for documents, paper file
        shredder: machine that destroys papers; office chair: swivel seat, ergonomic seating for work
        whiteboard: dry erase panel, wall for markers; calculator: adding machine, device for sums
        envelopes: letter covers, mailers; sticky notes: post its, adhesive memo slips
        wall calendar: year planner, date sheet; desk lamp: study light, light for homework
        paper clips: metal page holders; highlighter: neon marker, fluorescent felt tip
        filing cabinet: document cupboard, drawers for records; scissors: shears, cutter for paper
    """,
    "pets": """
        dog lead: leash, walking line for a puppy; cat litter: kitty sand, toilet granules
        aquarium: fish tank, glass basin for guppies; scratching post: cat tree, pole for claws
        dog basket: puppy bed, sleeping place for a hound; hamster cage: rodent home
        dog food: kibble, puppy meals; cat food: kitten meals, wet pouches for kitties
        pet carrier: transport box for animals; dog toy: chew bone, squeaky ball for puppies
        bird cage: aviary, home for a parrot; horse blanket: stable rug, pony cover
        flea collar: tick protection; pet brush: fur comb, grooming tool
    """,
    "travel": """
        suitcase: luggage, trolley for the airport; handbag: purse, ladies' shoulder bag
        wallet: billfold, card holder; umbrella: brolly, rain shade
        sunglasses: shades, tinted glasses; neck pillow: flight cushion, headrest for the plane
        duffel bag: holdall, weekender; passport cover: document holder for trips
        travel adapter: foreign plug converter; wristwatch: timepiece, chronograph
        toiletry bag: wash kit, cosmetics case for trips; briefcase: attache case, business bag
        luggage scale: baggage weigher; packing cubes: organisers for a suitcase
    """,
    "music": """
        guitar: six strings, acoustic instrument to strum; digital piano: electric keys, keyboard instrument
        drum kit: percussion set; violin: fiddle, instrument with a bow
        record player: turntable, phonograph for vinyl; harmonica: mouth organ, blues harp
        flute: woodwind pipe, recorder; metronome: tempo keeper, beat clicker
        music stand: holder for sheet notes; ukulele: hawaiian little strummer
        amplifier: amp, booster for electric instruments; trumpet: brass horn
    """,
    "car": """
        tyres: car wheels, rubber for the rims; roof box: luggage carrier on top of a car
        dash cam: driving recorder, windscreen video; jump starter: emergency help for a flat battery
        wiper blades: windscreen cleaners; floor mats: footwell carpets
        car polish: wax for a shiny finish; snow chains: winter grip for wheels
        bike rack: cycle carrier, holder behind the hatch; sat nav: gps, navigation device for drivers
        air pump: tyre inflator, compressor; phone holder: mobile mount for the dashboard
    """,
}
"""By department: a kind's name, and what else it is called."""

TRAITS: Mapping[str, tuple[str, ...]] = {
    "foldable": ("folding", "that packs flat"),
    "lightweight": ("light", "that weighs little"),
    "waterproof": ("water resistant", "for wet weather"),
    "cordless": ("wireless", "without a cable"),
    "compact": ("small", "for little space"),
    "heavy duty": ("sturdy", "that lasts for years"),
    "silent": ("quiet", "without noise"),
    "vintage": ("old fashioned", "retro"),
    "handmade": ("artisan", "crafted by hand"),
    "washable": ("easy to clean", "that can go in the machine"),
    "rechargeable": ("usb powered", "that needs no new batteries"),
    "recycled": ("eco friendly", "sustainable"),
    "luxury": ("premium", "high end"),
    "budget": ("cheap", "affordable", "for little money"),
    "oversized": ("extra large", "huge"),
    "junior": ("children's", "for kids"),
    "insulated": ("thermal", "against the cold"),
    "adjustable": ("height changing", "that fits everyone"),
    "non slip": ("anti skid", "with good grip"),
    "padded": ("soft", "comfortable"),
}
"""What a title says of a thing, and how it is asked for."""

COLOURS: Mapping[str, tuple[str, ...]] = {
    "navy": ("dark blue", "blue"),
    "crimson": ("red", "bright red"),
    "charcoal": ("dark grey", "anthracite"),
    "ivory": ("off white", "cream"),
    "black": ("black", "all black"),
    "mustard": ("yellow", "golden yellow"),
    "olive": ("green", "army green"),
    "teal": ("turquoise", "blue green"),
    "lilac": ("light purple", "lavender"),
    "tan": ("light brown", "beige"),
    "coral": ("pink", "salmon"),
    "silver": ("grey metallic", "shiny grey"),
}

MATERIALS = _listed(
    """
        furniture: oak, walnut, steel, velvet, rattan
        kitchen: stainless steel, cast iron, ceramic, bamboo
        electronics: aluminium, glass, matte plastic
        clothing: cotton, merino, linen, polyester, denim
        shoes: leather, suede, mesh, canvas
        outdoor: nylon, titanium, ripstop, aluminium
        garden: galvanised steel, terracotta, teak, plastic
        tools: carbon steel, chrome, rubber
        home: cotton, wool, linen, glass, bamboo
        children: beech wood, organic cotton, soft plastic
        sport: carbon fibre, neoprene, rubber, steel
        beauty: shea butter, aloe, bamboo, argan oil
        office: recycled paper, steel, mesh, leather
        pets: nylon, wicker, fleece, steel
        travel: leather, polycarbonate, canvas, recycled nylon
        music: mahogany, maple, brass
        car: rubber, aluminium, microfibre
    """
)
"""By department, as titles say it."""

TRAITS_OF = _listed(
    """
        furniture: foldable, padded, vintage, compact, luxury, heavy duty
        kitchen: washable, non slip, compact, heavy duty, luxury, budget
        electronics: cordless, rechargeable, compact, luxury, budget, lightweight
        clothing: waterproof, lightweight, insulated, recycled, junior, oversized
        shoes: waterproof, non slip, padded, lightweight, junior, insulated
        outdoor: foldable, waterproof, lightweight, insulated, heavy duty, rechargeable
        garden: foldable, cordless, heavy duty, silent, lightweight, adjustable
        tools: cordless, heavy duty, rechargeable, compact, adjustable, non slip
        home: washable, silent, handmade, vintage, recycled, oversized
        children: foldable, washable, handmade, recycled, padded, lightweight
        sport: foldable, adjustable, non slip, padded, junior, lightweight
        beauty: rechargeable, recycled, luxury, budget, washable, compact
        office: silent, adjustable, heavy duty, recycled, luxury, budget
        pets: washable, padded, adjustable, heavy duty, waterproof, oversized
        travel: foldable, lightweight, waterproof, compact, luxury, vintage
        music: vintage, handmade, compact, junior, luxury, budget
        car: heavy duty, adjustable, waterproof, rechargeable, non slip, compact
    """
)
"""What the things of each department may be."""

USES = _listed(
    """
        furniture: for small flats, for the living room, for guests
        kitchen: for two, for large families, for daily use
        electronics: for students, for the office, for gamers
        clothing: for women, for men, for autumn
        shoes: for women, for men, for wide feet
        outdoor: for two, for winter nights, for festivals
        garden: for balconies, for large lawns, for raised beds
        tools: for beginners, for professionals, for the garage
        home: for the bedroom, for the bathroom, for the hallway
        children: for newborns, for toddlers, for ages six and up
        sport: for beginners, for clubs, for the home gym
        beauty: for sensitive skin, for men, for every day
        office: for schools, for the home office, for lefties
        pets: for small breeds, for seniors, for the car
        travel: for cabin trips, for business, for weekends
        music: for beginners, for the stage, for practice at home
        car: for vans, for winter, for small cars
    """
)
"""What they are for, as titles say it."""

PRICES = {
    name: float(price)
    for name, (price,) in _listed(
        """
        furniture: 220; kitchen: 30; electronics: 180; clothing: 45; shoes: 70; outdoor: 60; garden: 65; tools: 40
        home: 35; children: 40; sport: 75; beauty: 18; office: 25; pets: 28; travel: 80; music: 190; car: 55
        """
    ).items()
}
"""What a thing of the department costs, about."""

BRANDS = _words(
    """
    Halden Corvane Brunel Tessari Northvale Pemberly Kivi Ostrava Lindqvist Marlowe Duray Fennick Solano Whitby Arden
    Castell Hollis Juniper Bexley Moretti Oakhurst Rowan Sandvik Talbot Verano Yarrow Zephyr Calder Dunmore Elstree
    Garrick Ingram Kestrel Lomond Nyland Orwell Penrose Quill Ridley Selwyn
    """
)

LINES = _words(
    """
    jaguar falcon nimbus orbit mercury amber mustang apollo tundra comet phoenix saturn cobra delta echo lotus panther
    titan aurora breeze condor dolphin ember fury glacier horizon iris javelin koala lynx magnolia neptune oasis pelican
    quartz raven sahara tempest umbra viper willow xenon yukon zebra atlas bison cascade dynamo eclipse fjord gazelle
    halo indigo jasper kodiak lagoon mirage nova onyx prism
    """
)
"""Names of product lines: each is said of two unlike things."""

EDITIONS = ("", "mini", "pro", "classic", "plus", "air", "neo", "max")
"""Of a line; so there are names for many queries."""

KINDS: Mapping[str, Kind] = {
    name: Kind(name, asked, department) for department, stock in STOCK.items() for name, asked in _listed(stock).items()
}
