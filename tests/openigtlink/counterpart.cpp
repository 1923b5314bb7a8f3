// The C++ library as our counterpart: a viewer that checks every message, and a sender of images.
//   counterpart view PORT COUNT       prints a line for each message
//   counterpart send PORT COMPONENTS  serves one connection until it ends
#include <igtlClientSocket.h>
#include <igtlImageMessage.h>
#include <igtlMessageHeader.h>
#include <igtlPolyDataMessage.h>
#include <igtlServerSocket.h>
#include <igtlStringMessage.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

template <class Message>
typename Message::Pointer receive(igtl::Socket *socket, igtl::MessageHeader *header) {
  typename Message::Pointer message = Message::New();
  message->SetMessageHeader(header);
  message->AllocatePack();
  socket->Receive(message->GetPackBodyPointer(), message->GetPackBodySize());
  const bool intact = message->Unpack(1) & igtl::MessageHeader::UNPACK_BODY;
  igtl::TimeStamp::Pointer stamp = igtl::TimeStamp::New();
  header->GetTimeStamp(stamp);
  printf("%s %s %s %.6f ", intact ? "intact" : "DAMAGED", header->GetDeviceType(), header->GetDeviceName(),
         stamp->GetTimeStamp());
  return message;
}

int view(int port, int count) {
  igtl::ClientSocket::Pointer socket = igtl::ClientSocket::New();
  if (socket->ConnectToServer("127.0.0.1", port) != 0) return 1;
  for (; count > 0; count--) {
    igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
    header->InitPack();
    if (socket->Receive(header->GetPackPointer(), header->GetPackSize()) != header->GetPackSize()) return 2;
    header->Unpack();
    if (!strcmp(header->GetDeviceType(), "IMAGE")) {
      igtl::ImageMessage::Pointer image = receive<igtl::ImageMessage>(socket, header);
      int size[3], sum = 0;
      float spacing[3], origin[3];
      image->GetDimensions(size), image->GetSpacing(spacing), image->GetOrigin(origin);
      const unsigned char *pixel = static_cast<unsigned char *>(image->GetScalarPointer());
      for (int i = 0; i < image->GetImageSize(); i++) sum += pixel[i];
      printf("%dx%dx%d %.4f %.4f at %.3f %.3f sum %d\n", size[0], size[1], size[2], spacing[0], spacing[1],
             origin[0], origin[1], sum);
    } else if (!strcmp(header->GetDeviceType(), "POLYDATA")) {
      igtl::PolyDataMessage::Pointer outline = receive<igtl::PolyDataMessage>(socket, header);
      igtl::PolyDataPointArray *points = outline->GetPoints();
      igtl::PolyDataCellArray *lines = outline->GetLines();
      printf("%d points %d lines\n", points ? points->GetNumberOfPoints() : 0, lines ? lines->GetNumberOfCells() : 0);
    } else {
      printf("%s\n", receive<igtl::StringMessage>(socket, header)->GetString());
    }
  }
  return 0;
}

int send(int port, int components) {
  igtl::ServerSocket::Pointer server = igtl::ServerSocket::New();
  if (server->CreateServer(port) != 0) return 1;
  printf("ready\n"), fflush(stdout);
  igtl::ClientSocket::Pointer socket = server->WaitForConnection(60000);
  if (socket.IsNull()) return 2;
  for (int number = 0;; number++) {
    igtl::ImageMessage::Pointer image = igtl::ImageMessage::New();
    image->SetDimensions(64, 48, 1), image->SetSpacing(0.1, 0.1, 1), image->SetNumComponents(components);
    image->SetScalarTypeToUint8(), image->SetDeviceName("Image_Reference"), image->AllocateScalars();
    unsigned char *pixel = static_cast<unsigned char *>(image->GetScalarPointer());
    for (int i = 0; i < image->GetImageSize(); i++) pixel[i] = components == 1 ? i % 64 + number : 10 * (i % 3);
    igtl::TimeStamp::Pointer stamp = igtl::TimeStamp::New();
    stamp->GetTime(), image->SetTimeStamp(stamp), image->Pack();
    if (!socket->Send(image->GetPackPointer(), image->GetPackSize())) return 0;
    usleep(10000);
  }
}

int main(int, char **arguments) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const int port = atoi(arguments[2]), last = atoi(arguments[3]);
  return strcmp(arguments[1], "view") ? send(port, last) : view(port, last);
}
