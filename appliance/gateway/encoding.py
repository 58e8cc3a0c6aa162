"""One request that encodes: submit its texts to an engine, gather the rows, and write the one answer.

Knows neither keys nor routes' owners. There is no stream: nothing goes out before everything is there, so whatever
goes wrong is a plain error that says whether to try again.
"""

from __future__ import annotations

import base64
import math
import secrets
import sys
import time
from array import array
from typing import Final, TypeAlias

import msgspec

from appliance.engine.frames import Accepted, Encode, Failed, Finished, FrameError, Info, Rows
from appliance.gateway.encoding_answers import (
    Classified,
    ClassifyAnswer,
    Embedding,
    EmbeddingsAnswer,
    EncodingAnswer,
    EncodingUsage,
    Moderated,
    ModerationAnswer,
    Ranked,
    RankedDocument,
    RerankAnswer,
)
from appliance.gateway.encoding_types import EncodingPlan
from appliance.gateway.engine_link import EngineLink, Exchange
from appliance.gateway.hang_up import watched
from appliance.gateway.inlet import Receive
from appliance.gateway.observe import Visit
from appliance.gateway.plan import Asker
from appliance.gateway.refusals import bad_request, engine_unavailable, from_engine
from appliance.gateway.reply import Reply
from appliance.gateway.table import Route
from appliance.kernel.errors import Unavailable

FLAGGED_FROM: Final = 0.5
"""A text is flagged when the probability of a category reaches this."""

Row: TypeAlias = "array[float]"
"""32-bit floats; without numpy, which would double the memory of this process."""


class Encoding:
    """The texts of one request and what came of them."""

    def __init__(self, plan: EncodingPlan, route: Route, model: str, visit: Visit) -> None:
        self._plan = plan
        self._route = route
        self._model = model
        self._visit = visit

    async def run(self, link: EngineLink, asker: Asker, receive: Receive, reply: Reply) -> None:
        """Answer the request. Raises Refusal, or ClientGone when nobody listens any more."""
        exchange = link.hold()
        try:
            async with watched(receive, exchange):
                info = await self._submit(link, exchange, asker)
                rows = await self._collect(exchange)
        finally:
            link.release(exchange)
        await reply.json(msgspec.json.encode(self._document(rows, info)))

    async def _submit(self, link: EngineLink, exchange: Exchange, asker: Asker) -> Info:
        plan = self._plan
        try:
            info = await link.info()
            self._check(info)
            frame = Encode(
                id=0,
                tenant=asker.tenant,
                texts=plan.texts,
                query=plan.query,
                truncate=plan.truncate,
                priority=asker.priority,
            )
            await link.submit(exchange, [frame])
        except Unavailable as error:
            raise engine_unavailable(self._model) from error
        except FrameError as error:
            raise bad_request("The request is larger than an engine accepts.") from error
        return info

    def _check(self, info: Info) -> None:
        """Refuse before anything is computed what the model cannot give."""
        wanted = self._plan.dimensions
        if wanted is not None and wanted > info.width:
            raise bad_request(f"dimensions is {wanted}; this model has {info.width}.", param="dimensions")
        if wanted is not None and wanted < info.width and not self._route.shortens:
            raise bad_request(
                f"dimensions: the vectors of this model keep their meaning only whole ({info.width} numbers).",
                param="dimensions",
                code="unsupported",
            )
        if self._plan.form == "moderations" and not self._route.categories:
            raise bad_request(
                f"The model {self._model!r} is not deployed for moderation; /v1/classify gives its labels.",
                param="model",
                code="wrong_endpoint",
            )

    async def _collect(self, exchange: Exchange) -> list[Row]:
        gathered = [array("f") for _ in self._plan.texts]
        while True:
            for _, outcome in await exchange.take():
                match outcome:
                    case Accepted(prompt_tokens=tokens):
                        self._visit.prompt_tokens += tokens
                    case Rows(first=first, rows=rows):
                        for number, row in enumerate(rows, start=first):
                            gathered[number] = _numbers(row)
                    case Failed():
                        raise from_engine(outcome, self._model)
                    case Finished(reason="cancelled"):  # not by us: the engine is going away
                        raise engine_unavailable(self._model)
                    case Finished():
                        return gathered

    def _document(self, rows: list[Row], info: Info) -> EncodingAnswer:
        match self._plan.form:
            case "embeddings":
                return self._embeddings(rows)
            case "rerank":
                return self._ranking([row[0] for row in rows])
            case "classify":
                return self._labels(rows, info)
            case _:
                return self._moderation(rows, info)

    def _usage(self) -> EncodingUsage:
        return EncodingUsage(prompt_tokens=self._visit.prompt_tokens, total_tokens=self._visit.prompt_tokens)

    def _embeddings(self, rows: list[Row]) -> EmbeddingsAnswer:
        vectors = [_shortened(row, self._plan.dimensions) for row in rows]
        data = [
            Embedding(index=index, embedding=_packed(row) if self._plan.base64 else row.tolist())
            for index, row in enumerate(vectors)
        ]
        return EmbeddingsAnswer(data=data, model=self._model, usage=self._usage())

    def _ranking(self, scores: list[float]) -> RerankAnswer:
        plan = self._plan
        results = [
            Ranked(
                index=index,
                relevance_score=scores[index],
                document=RankedDocument(text=str(plan.texts[index])) if plan.return_documents else msgspec.UNSET,
            )
            for index in sorted(range(len(scores)), key=lambda index: -scores[index])[: plan.top_n]
        ]
        return RerankAnswer(
            id=f"rerank-{secrets.token_hex(12)}", model=self._model, results=results, usage=self._usage()
        )

    def _labels(self, rows: list[Row], info: Info) -> ClassifyAnswer:
        data = [
            Classified(
                index=index,
                label=info.labels[row.index(max(row))],
                probs=row.tolist(),
                num_classes=len(info.labels),
            )
            for index, row in enumerate(rows)
        ]
        return ClassifyAnswer(
            id=f"classify-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=self._model,
            labels=list(info.labels),
            data=data,
            usage=self._usage(),
        )

    def _moderation(self, rows: list[Row], info: Info) -> ModerationAnswer:
        """A category has the probability of its most likely label; labels without a category say that all is well."""
        results = []
        for row in rows:
            scores = dict.fromkeys(sorted(set(self._route.categories.values())), 0.0)
            for label, probability in zip(info.labels, row.tolist(), strict=True):
                category = self._route.categories.get(label)
                if category is not None:
                    scores[category] = max(scores[category], probability)
            categories = {name: score >= FLAGGED_FROM for name, score in scores.items()}
            flagged = any(categories.values())
            results.append(Moderated(flagged=flagged, categories=categories, category_scores=scores))
        return ModerationAnswer(id=f"modr-{secrets.token_hex(12)}", model=self._model, results=results)


def _numbers(packed: bytes) -> Row:
    row = array("f", packed)
    if sys.byteorder == "big":
        row.byteswap()
    return row


def _packed(row: Row) -> str:
    """Base64 of little-endian 32-bit floats, as OpenAI has it."""
    if sys.byteorder == "big":
        row = array("f", row)
        row.byteswap()
    return base64.b64encode(row.tobytes()).decode()


def _shortened(row: Row, dimensions: int | None) -> Row:
    """The first numbers of a vector, scaled to length 1 again."""
    if dimensions is None or dimensions >= len(row):
        return row
    kept = row[:dimensions]
    length = math.sqrt(math.fsum(number * number for number in kept))
    return array("f", (number / length for number in kept)) if length else kept
