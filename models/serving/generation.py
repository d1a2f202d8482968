"""The surfaces as one set of declarations has them: what is in service until the files are taken up anew.

    generation = Generation(config.surfaces(), config, database, registry, metrics, signer)
    generation.start()
    generation.rankers["feed"].rank(body, stages)

``service`` makes the next one beside that in service and puts it into its place once it has caught up with the log.
"""

import threading
import time
from collections.abc import Callable, Mapping

from models.layouts import layout_of
from models.serving.access.signing import Signer
from models.serving.config import ServedSurface, ServingConfig
from models.serving.durable.database import Database
from models.serving.durable.group_commit import JOIN_S
from models.serving.follow.catalogue import Catalogue
from models.serving.follow.champions import Champions
from models.serving.follow.click_memory import ClickMemory
from models.serving.follow.item_changes import FollowedItems, ItemFollower
from models.serving.follow.live_features import LiveFeatures
from models.serving.follow.live_texts import LiveTexts
from models.serving.follow.retriever import Retriever
from models.serving.rank.ranking import SurfaceRanker
from models.serving.rank.views import LiveViews
from models.serving.recommend.followed_log import FollowedLog
from models.serving.recommend.recommender import Recommender
from models.serving.recommend.text_index import TextIndex
from models.serving.telemetry import Metrics
from models.serving.variants.store import VariantStore
from models.versions.registry import Registry


class Generation:
    """Between ``start`` and ``stop``."""

    def __init__(
        self,
        surfaces: Mapping[str, ServedSurface],
        config: ServingConfig,
        database: Database,
        registry: Registry,
        metrics: Metrics,
        signer: Signer,
    ) -> None:
        self.versions = {name: surface.version for name, surface in surfaces.items()}
        self.champions = Champions(
            {name: layout_of(one.features.schema, one.views, one.features.labels) for name, one in surfaces.items()},
            config.cache / "models",
            registry,
            database,
            metrics,
            config.clock,
            config.poll_s,
        )
        features = {
            name: LiveFeatures(name, surface.features, database, metrics, config.clock, config.follow_s)
            for name, surface in surfaces.items()
        }
        catalogues = {name: Catalogue(surface.features) for name, surface in surfaces.items()}
        encoders = config.cache / "encoders" if config.compiles else None
        self.texts = {
            name: LiveTexts(name, surface.features, surface.text, database, config.follow_s, encoders)
            for name, surface in surfaces.items()
            if surface.text is not None
        }
        followed = {
            name: FollowedItems(catalogues[name], features[name].items, self.texts.get(name)) for name in surfaces
        }
        self.items = ItemFollower(followed, database, config.clock, config.follow_s)
        self.rankers = {
            name: SurfaceRanker(
                name,
                surface.features,
                self.champions,
                features[name],
                catalogues[name],
                self._recommender(name, surface, catalogues[name], config, database),
                LiveViews(surface.views, database),
                signer,
                config.clock,
                surface.explore,
                self.texts.get(name),
            )
            for name, surface in surfaces.items()
        }
        self.variants = {
            name: VariantStore(name, surface.features, surface.variants, database)
            for name, surface in surfaces.items()
            if surface.variants is not None
        }
        self._database = database
        self._stopping = threading.Event()
        self._followers: list[threading.Thread] = []

    def _recommender(
        self, name: str, surface: ServedSurface, catalogue: Catalogue, config: ServingConfig, database: Database
    ) -> Recommender | None:
        if surface.recommend is None:
            return None
        clicks, declared, texts = ClickMemory(), surface.features, None
        if surface.text is not None and surface.text.query is not None:
            texts = TextIndex(surface.text.item, self.texts[name])
        retriever = Retriever(name, declared, self.champions, catalogue, clicks, config.clock)
        log = FollowedLog(
            *(name, declared, surface.recommend, catalogue, clicks, retriever, database),
            *(config.clock, config.follow_s, texts),
        )
        return Recommender(
            declared, surface.recommend, catalogue, retriever, log, self.items.lag_s, texts, surface.variants
        )

    def start(self) -> None:
        """Take the cached models into service; the rest comes in the background."""
        self.champions.restore()
        follows: dict[str, Callable[[threading.Event], None]] = {
            "promotions": self.champions.follow,
            **{f"features {surface}": ranker.live_features.follow for surface, ranker in self.rankers.items()},
            "items": self.items.follow,
            **{f"texts {surface}": texts.follow for surface, texts in self.texts.items()},
            **{f"clicks {name}": one.recommender.log.follow for name, one in self.rankers.items() if one.recommender},
        }
        self._followers = [
            threading.Thread(target=follow, args=(self._stopping,), name=name, daemon=True)
            for name, follow in follows.items()
        ]
        for follower in self._followers:
            follower.start()

    @property
    def ready(self) -> bool:
        """Once models, features, items and their texts are in place, or it is known that the database is away."""
        known = [self.champions.checked, self.items.ready]
        known += [ranker.live_features.ready for ranker in self.rankers.values()]
        # The items first: their texts are those that the vectors are to be there of.
        return all(event.is_set() for event in known) and all(texts.ready for texts in self.texts.values())

    def wait_until_ready(self, stopping: threading.Event, patience_s: float) -> None:
        """Until it is, or ``stopping`` is set, or so many seconds have passed."""
        until = time.monotonic() + patience_s
        while not self.ready and time.monotonic() < until and not stopping.wait(0.1):
            pass

    def stop(self) -> None:
        """End what it follows."""
        self._stopping.set()
        self._database.wake()
        for follower in self._followers:
            follower.join(JOIN_S)
        for ranker in self.rankers.values():
            ranker.views.close()
