"""The usual way to list conversations: FastAPI, SQLAlchemy's synchronous ORM on PyMySQL, pydantic. For list.py."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL, ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str]
    email: Mapped[str | None]
    password_hash: Mapped[str]
    is_active: Mapped[bool]
    profile: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class UserRole(Base):
    __tablename__ = "user_roles"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)


class UserSession(Base):
    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    login_time: Mapped[datetime]
    authenticated_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    logout_time: Mapped[datetime | None]
    user_agent: Mapped[str]
    address: Mapped[str]


class Conversation(Base):
    __tablename__ = "conversations"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str]
    titled_by_user: Mapped[bool]
    config_id: Mapped[int | None]
    writing_reply_id: Mapped[int | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ConversationOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str
    config_id: int | None
    created_at: datetime
    updated_at: datetime


class ConversationsOut(BaseModel):
    items: list[ConversationOut]
    has_more: bool
    limit: int
    offset: int


def application(url: URL, secret: str, pool_size: int) -> FastAPI:
    app = FastAPI()
    make_session = sessionmaker(create_engine(url, pool_size=pool_size, pool_recycle=1800))
    bearer = HTTPBearer()

    def get_db() -> Iterator[Session]:
        db = make_session()
        try:
            yield db
        finally:
            db.close()

    def current_user(
        credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)], db: Annotated[Session, Depends(get_db)]
    ) -> User:
        try:
            claims = jwt.decode(
                credentials.credentials, secret, algorithms=["HS256"], issuer="chatcore", audience="chatcore"
            )
        except jwt.PyJWTError as error:
            raise HTTPException(401) from error
        found = db.execute(
            select(UserSession, User, UserRole.role)
            .join(User, User.id == UserSession.user_id)
            .outerjoin(UserRole, UserRole.user_id == User.id)
            .where(UserSession.user_id == int(claims["sub"]), UserSession.id == claims["sid"])
        ).first()
        if found is None:
            raise HTTPException(401)
        session, user, _ = found
        if session.logout_time or session.expires_at <= datetime.now(UTC).replace(tzinfo=None) or not user.is_active:
            raise HTTPException(401)
        return user

    @app.get("/conversations", response_model=ConversationsOut)
    def list_conversations(
        user: Annotated[User, Depends(current_user)],
        db: Annotated[Session, Depends(get_db)],
        limit: int = 20,
        offset: int = 0,
    ) -> Any:
        found = db.scalars(
            select(Conversation)
            .where(Conversation.user_id == user.id)
            .order_by(Conversation.updated_at.desc(), Conversation.id.desc())
            .limit(limit + 1)
            .offset(offset)
        ).all()
        return {"items": found[:limit], "has_more": len(found) > limit, "limit": limit, "offset": offset}

    return app
