"""Calls for benign libraries: scores of models known to be benign, with which audits are compared."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Response

from backdoor_audit.contract.ids import ENTRY_ID, LIBRARY_REFERENCE
from jobs.errors import (
    EntryExists,
    EntryNotFound,
    EntryRefused,
    LibraryFull,
    LibraryInUse,
    LibraryNameTaken,
    LibraryNotFound,
)
from service.dependencies import DependenciesDep
from service.errors import EntryNeedsReason, InvalidRequest
from service.http.auth import OwnerDep, get_caller, requires
from service.http.json_body import body_of, reading
from service.http.paging import PagingDep
from service.http.public_url import link
from service.http.queries import refuse_unknown
from service.libraries import examples, service
from service.libraries.schemas import EntryListing, EntryOut, EntrySpec, LibraryListing, LibraryOut, LibrarySpec
from service.openapi_document.fragments import answer, described, header

LibraryRef = Annotated[
    str, Path(pattern=LIBRARY_REFERENCE, description="The id of a library, or its name.", examples=["smollm2-year"])
]
EntryId = Annotated[str, Path(pattern=ENTRY_ID, description="The id of an entry.", examples=[examples.ENTRY_ID])]

_LOCATION: Final = header("URL of the new object.")
_READ: Final = Depends(requires("audits:read"))
_WRITE: Final = Depends(requires("audits:write"))

router = APIRouter(tags=["libraries"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


@router.post(
    "/libraries",
    status_code=201,
    summary="Create a benign library",
    dependencies=[_WRITE],
    response_model=LibraryOut,
    openapi_extra=body_of(LibrarySpec, "library_spec"),
    responses=described(
        {201: answer("The library, empty.", "library", {"Location": _LOCATION})},
        400, LibraryNameTaken, LibraryFull, 413, 415, InvalidRequest, 503,
    ),
)  # fmt: skip
def create_library(
    response: Response,
    dependencies: DependenciesDep,
    owner: OwnerDep,
    wanted: Annotated[LibrarySpec, Depends(reading(LibrarySpec))],
) -> LibraryOut:
    """Create an empty library. Specs name it by id or by name."""
    library = dependencies.ledger.libraries.create(wanted.name, owner=owner)
    response.headers["Location"] = link(f"/libraries/{library.id}")
    return LibraryOut.of(library)


@router.get(
    "/libraries",
    summary="List benign libraries",
    dependencies=[_READ],
    response_model=LibraryListing,
    responses=described({200: answer("Newest first.", "library_listing")}, InvalidRequest, 503),
)
def list_libraries(dependencies: DependenciesDep, owner: OwnerDep, paging: PagingDep) -> LibraryListing:
    """The caller's own libraries."""
    page = dependencies.ledger.libraries.list(owner=owner, page_size=paging.page_size, page_token=paging.page_token)
    return LibraryListing.of(page)


@router.get(
    "/libraries/{library}",
    summary="Get a benign library",
    dependencies=[_READ],
    response_model=LibraryOut,
    responses=described({200: answer("The library.", "library")}, LibraryNotFound, 503),
)
def get_library(dependencies: DependenciesDep, owner: OwnerDep, library: LibraryRef) -> LibraryOut:
    """Its name and its number of models."""
    return LibraryOut.of(dependencies.ledger.libraries.get(library, owner=owner))


@router.delete(
    "/libraries/{library}",
    status_code=204,
    response_class=Response,
    summary="Delete a benign library",
    dependencies=[_WRITE],
    responses=described(
        {204: {"description": "The library and its entries are deleted; reports that used it stay."}},
        LibraryNotFound, LibraryInUse, 503,
    ),
)  # fmt: skip
def delete_library(dependencies: DependenciesDep, owner: OwnerDep, library: LibraryRef) -> None:
    """Delete a library; refused while an unfinished audit compares with it."""
    dependencies.ledger.libraries.delete(library, owner=owner)


@router.get(
    "/libraries/{library}/entries",
    summary="List the models of a benign library",
    dependencies=[_READ],
    response_model=EntryListing,
    responses=described({200: answer("Newest first.", "entry_listing")}, LibraryNotFound, InvalidRequest, 503),
)
def list_entries(
    dependencies: DependenciesDep, owner: OwnerDep, library: LibraryRef, paging: PagingDep
) -> EntryListing:
    """The models with their scores, and what the scores are comparable with."""
    page = dependencies.ledger.libraries.entries(
        library, owner=owner, page_size=paging.page_size, page_token=paging.page_token
    )
    return EntryListing.of(page)


@router.post(
    "/libraries/{library}/entries",
    status_code=201,
    summary="Add a model to a benign library",
    dependencies=[_WRITE],
    response_model=EntryOut,
    openapi_extra=body_of(EntrySpec, "entry_spec"),
    responses=described(
        {201: answer("The score, taken from the audit's report.", "entry")},
        400, LibraryNotFound, EntryRefused, EntryNeedsReason, EntryExists,
        LibraryFull, 413, 415, InvalidRequest, 503,
    ),
)  # fmt: skip
def add_entry(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    library: LibraryRef,
    wanted: Annotated[EntrySpec, Depends(reading(EntrySpec))],
) -> EntryOut:
    """Add the score of a finished audit whose model the caller vouches is benign. The service does not check that.

    An audit whose verdict is not `no_evidence` is added only with a reason, which the library keeps.
    """
    stored = service.add_entry(
        dependencies, owner, library, audit_id=wanted.audit_id, recipe=wanted.recipe, because=wanted.because
    )
    return EntryOut.of(stored)


@router.delete(
    "/libraries/{library}/entries/{entry_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a model from a benign library",
    dependencies=[_WRITE],
    responses=described(
        {204: {"description": "The entry is deleted. Audits that a worker has already started still compare with it."}},
        LibraryNotFound, EntryNotFound, 503,
    ),
)  # fmt: skip
def remove_entry(dependencies: DependenciesDep, owner: OwnerDep, library: LibraryRef, entry_id: EntryId) -> None:
    """Remove one score."""
    dependencies.ledger.libraries.remove(library, entry_id, owner=owner)
