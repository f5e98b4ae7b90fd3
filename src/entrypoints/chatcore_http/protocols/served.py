"""What the application has of other protocols."""

from litestar import Router

from chatcore_app import Settings
from chatcore_http.protocols import ag_ui_routes, ai_sdk_routes
from chatcore_http.protocols.ag_ui_routes import Runs
from chatcore_http.protocols.ai_chats import AiChats
from chatcore_http.protocols.openai import chat_completions, conversations, embeddings, models, responses
from chatcore_http.protocols.openai.chat_completions import Completions
from chatcore_http.protocols.openai.following import Following
from chatcore_http.protocols.openai.references import References
from chatcore_http.protocols.openai.relaying import Relaying
from chatcore_http.protocols.openai.responses import Responses

SHARED = (AiChats, Completions, Following, References, Relaying, Responses, Runs)
"""What their routes share: one of each for the application."""


def protocol_routers(settings: Settings) -> list[Router]:
    """Return the routes of protocols that are described elsewhere, by those who made them."""
    most = settings.max_relay_body_bytes
    return [
        *models.routers(),
        *chat_completions.routers(most),
        *responses.routers(most),
        *conversations.routers(most),
        *embeddings.routers(most),
        *ai_sdk_routes.routers(most),
        *ag_ui_routes.routers(most),
    ]
